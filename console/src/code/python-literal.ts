/** Python's spelling of a JSON value: on one line where it is short, else one item a line. */
const WIDTH = 88;

export function pythonLiteral(value: unknown, indent = 0): string {
  const line = flat(value);
  if (indent + line.length <= WIDTH || !isNested(value)) return line;
  const pad = " ".repeat(indent + 4);
  const end = " ".repeat(indent);
  if (Array.isArray(value)) {
    const items = value.map((item) => `${pad}${pythonLiteral(item, indent + 4)},\n`);
    return `[\n${items.join("")}${end}]`;
  }
  const items = Object.entries(value as object).map(
    ([name, item]) => `${pad}${text(name)}: ${pythonLiteral(item, indent + 4)},\n`,
  );
  return `{\n${items.join("")}${end}}`;
}

/** A call's keyword arguments, one a line. */
export function pythonArguments(fields: readonly [string, unknown][]): string {
  return fields.map(([name, value]) => `    ${name}=${pythonLiteral(value, 4)},\n`).join("");
}

function flat(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return text(value);
  if (Array.isArray(value)) return `[${value.map(flat).join(", ")}]`;
  if (typeof value === "object") {
    const items = Object.entries(value).map(([name, item]) => `${text(name)}: ${flat(item)}`);
    return `{${items.join(", ")}}`;
  }
  return String(value);
}

function isNested(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

/** A JSON string is a Python string too: their escapes mean the same. */
function text(value: string): string {
  return JSON.stringify(value);
}
