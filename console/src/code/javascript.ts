import { KEY_VARIABLE, type Printable, type Program, type Target } from "./program";

/** The request with the official OpenAI SDK for JavaScript, as a module for Node. */
export function javascriptProgram({ kind, body }: Printable, target: Target): Program {
  const sent = target.streams ? { ...body, stream: true } : body;
  const method = kind === "chat" ? "client.chat.completions.create" : "client.completions.create";
  const key = target.needsKey ? `process.env.${KEY_VARIABLE}` : '"local"';
  const result = target.streams ? "stream" : "completion";
  const hasTools = "tools" in body;
  const code = [
    'import OpenAI from "openai";',
    "",
    `const client = new OpenAI({ baseURL: "${target.origin}/v1", apiKey: ${key} });`,
    `const ${result} = await ${method}(${JSON.stringify(sent, null, 2)});`,
    ...(target.streams ? streamed(kind, hasTools) : whole(kind, hasTools)),
    "",
  ].join("\n");
  return { name: "JavaScript", language: "js", install: "npm install openai", code, missing: [] };
}

function whole(kind: Printable["kind"], hasTools: boolean): string[] {
  if (kind === "completion") return ["console.log(completion.choices[0].text);"];
  if (!hasTools) return ["console.log(completion.choices[0].message.content);"];
  return [
    "const { content, tool_calls = [] } = completion.choices[0].message;",
    "if (content) console.log(content);",
    "for (const call of tool_calls) console.log(call.function.name, call.function.arguments);",
  ];
}

function streamed(kind: Printable["kind"], hasTools: boolean): string[] {
  if (kind === "completion") {
    return [
      "for await (const chunk of stream) process.stdout.write(chunk.choices[0].text);",
      "console.log();",
    ];
  }
  const lines = [
    "for await (const chunk of stream) {",
    "  const { delta } = chunk.choices[0];",
    '  process.stdout.write(delta.content ?? "");',
  ];
  if (hasTools) {
    lines.push(
      "  for (const call of delta.tool_calls ?? []) {",
      "    if (call.function.name) process.stdout.write(`${call.function.name} `);",
      '    process.stdout.write(call.function.arguments ?? "");',
      "  }",
    );
  }
  return [...lines, "}", "console.log();"];
}
