// Lists the operations of /openapi.json with their fields and a curl line each. Text only ever
// reaches the page through textContent.
"use strict";

const EXAMPLES = {
  "/v1/chat/completions": (model) => ({
    model, messages: [{ role: "user", content: "Say hello in French." }], max_tokens: 50,
  }),
  "/v1/completions": (model) => ({ model, prompt: "The capital of France is", max_tokens: 16 }),
};

function element(tag, text, ...children) {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

function typeName(schema, schemas) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.map((o) => typeName(o, schemas)).join(" or ");
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" or ");
  if (schema.type === "array") return "list of " + typeName(schema.items, schemas);
  return [].concat(schema.type || "any").join(" or ");
}

function fieldTable(schema, schemas) {
  const body = element("tbody");
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const required = (schema.required || []).includes(name);
    body.append(element("tr", "",
      element("td", "", element("code", name), required ? " (required)" : ""),
      element("td", typeName(field, schemas)),
      element("td", field.description || "")));
  }
  const head = element("tr", "", element("th", "field"), element("th", "type"), element("th", ""));
  return element("table", "", element("thead", "", head), body);
}

function curlLine(method, path, model) {
  const url = location.origin + path.replace(/\{[^}]*\}/, model);
  const example = EXAMPLES[path];
  if (!example) return method === "GET" ? `curl ${url}` : `curl -X ${method} ${url}`;
  const json = JSON.stringify(example(model), null, 2).replaceAll("'", "'\\''");
  return `curl ${url} \\\n  -H 'content-type: application/json' \\\n  -d '${json}'`;
}

function exampleBlock(text) {
  const button = element("button", "copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  const block = element("div", "", element("pre", text), button);
  block.className = "example";
  return block;
}

function operation(path, method, spec, schemas, model) {
  const badge = element("span", method.toUpperCase());
  badge.className = "method " + method;
  const section = element("section", "",
    element("h2", "", badge, " ", element("code", path), " ", spec.summary || ""),
    element("p", spec.description || ""));
  section.id = method + path;
  const content = spec.requestBody && spec.requestBody.content["application/json"];
  if (content) {
    const schema = schemas[content.schema.$ref.split("/").pop()] || content.schema;
    const details = element("details", "", element("summary", "Fields"));
    details.append(fieldTable(schema, schemas));
    section.append(details);
  }
  section.append(exampleBlock(curlLine(method.toUpperCase(), path, model)));
  return section;
}

async function main() {
  document.getElementById("base").textContent = location.origin + "/v1";
  const [spec, models] = await Promise.all(
    ["/openapi.json", "/v1/models"].map(async (url) => (await fetch(url)).json()));
  const names = models.data.map((m) => m.id);
  document.getElementById("models").textContent = names.join(", ") || "none";
  const main = document.getElementById("operations");
  const contents = document.getElementById("contents");
  main.replaceChildren();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, op] of Object.entries(methods)) {
      if (method === "head") continue;
      main.append(operation(path, method, op, spec.components.schemas, names[0] || "MODEL"));
      const link = element("a", path);
      link.href = "#" + method + path;
      contents.append(link);
    }
  }
}

main().catch((error) => {
  document.getElementById("operations").textContent = "Could not load the API: " + error.message;
});
