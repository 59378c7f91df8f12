import { KEY_VARIABLE, type Printable, type Program, split, type Target } from "./program";
import { pythonArguments } from "./python-literal";

/** The request with the official OpenAI SDK. */
export function pythonProgram({ kind, body }: Printable, target: Target): Program {
  const { known, extra } = split(body);
  const fields: [string, unknown][] = [...known];
  if (target.streams) fields.push(["stream", true]);
  if (extra.length) fields.push(["extra_body", Object.fromEntries(extra)]);
  const method = kind === "chat" ? "client.chat.completions.create" : "client.completions.create";
  const hasTools = "tools" in body;
  const result = target.streams ? "stream" : "completion";
  const code = [
    ...(target.needsKey ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${target.origin}/v1", api_key=${pythonKey(target)})`,
    `${result} = ${method}(`,
    `${pythonArguments(fields)})`,
    ...(target.streams ? streamed(kind, hasTools) : whole(kind, hasTools)),
    "",
  ].join("\n");
  return { name: "Python", language: "python", install: "pip install openai", code, missing: [] };
}

export function pythonKey(target: Target): string {
  return target.needsKey ? `os.environ["${KEY_VARIABLE}"]` : '"local"';
}

function whole(kind: Printable["kind"], hasTools: boolean): string[] {
  if (kind === "completion") return ["print(completion.choices[0].text)"];
  if (!hasTools) return ["print(completion.choices[0].message.content)"];
  return [
    "message = completion.choices[0].message",
    "if message.content:",
    "    print(message.content)",
    "for call in message.tool_calls or []:",
    "    print(call.function.name, call.function.arguments)",
  ];
}

function streamed(kind: Printable["kind"], hasTools: boolean): string[] {
  if (kind === "completion") {
    return [
      "for chunk in stream:",
      '    print(chunk.choices[0].text, end="", flush=True)',
      "print()",
    ];
  }
  const lines = [
    "for chunk in stream:",
    "    delta = chunk.choices[0].delta",
    '    print(delta.content or "", end="", flush=True)',
  ];
  if (hasTools) {
    lines.push(
      "    for call in delta.tool_calls or []:",
      "        if call.function.name:",
      '            print(call.function.name, end=" ")',
      '        print(call.function.arguments or "", end="", flush=True)',
    );
  }
  return [...lines, "print()"];
}
