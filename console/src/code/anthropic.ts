import type { ChatBody } from "@/playground/request";
import type { Program, Target } from "./program";
import { pythonKey } from "./python";
import { pythonArguments } from "./python-literal";

/** A chat with Anthropic's SDK, for programs that speak its API. */
type Fields = Record<string, unknown>;
type Message = ChatBody["messages"][number];

const SAME = ["temperature", "top_p", "top_k"] as const;
const ELSEWHERE = new Set<string>([
  ...SAME,
  "model",
  "messages",
  "max_tokens",
  "stop",
  "tools",
  "tool_choice",
  "reasoning_effort",
]);
const DEFAULT_MAX_TOKENS = 4096;

export function anthropicProgram(body: ChatBody, target: Target): Program {
  const { fields, missing } = translate(body, target.contextLen);
  const print = target.streams
    ? [
        "with client.messages.stream(",
        `${pythonArguments(fields)}) as stream:`,
        "    for text in stream.text_stream:",
        '        print(text, end="", flush=True)',
        "    message = stream.get_final_message()",
        "print()",
        ...("tools" in body ? calls() : []),
      ]
    : [
        "message = client.messages.create(",
        `${pythonArguments(fields)})`,
        "for block in message.content:",
        '    if block.type == "text":',
        "        print(block.text)",
        ...("tools" in body ? calls() : []),
      ];
  const code = [
    ...(target.needsKey ? ["import os", ""] : []),
    "from anthropic import Anthropic",
    "",
    `client = Anthropic(base_url="${target.origin}", api_key=${pythonKey(target)})`,
    ...print,
    "",
  ].join("\n");
  return { name: "Anthropic", language: "python", install: "pip install anthropic", code, missing };
}

function calls(): string[] {
  return [
    "for block in message.content:",
    '    if block.type == "tool_use":',
    "        print(block.name, block.input)",
  ];
}

function translate(
  body: ChatBody,
  contextLen: number | null,
): { fields: [string, unknown][]; missing: string[] } {
  const fields: [string, unknown][] = [
    ["model", body.model],
    ["max_tokens", body.max_tokens ?? contextLen ?? DEFAULT_MAX_TOKENS],
  ];
  const system = body.messages
    .filter(({ role }) => role === "system")
    .map(({ content }) => content);
  if (system.length) fields.push(["system", system.join("\n\n")]);
  fields.push(["messages", messagesOf(body.messages)]);
  if (body.stop) fields.push(["stop_sequences", body.stop]);
  if (body.tools) {
    fields.push(["tools", body.tools.map(toolOf)]);
    if (body.tool_choice) fields.push(["tool_choice", choiceOf(body.tool_choice)]);
  }
  const missing = Object.keys(body).filter((name) => !ELSEWHERE.has(name));
  const output: Fields = {};
  const schema = (body.response_format as Fields | undefined)?.json_schema as Fields | undefined;
  if (schema) {
    output.format = { type: "json_schema", schema: schema.schema };
    missing.splice(missing.indexOf("response_format"), 1);
  }
  if (body.reasoning_effort === "none") fields.push(["thinking", { type: "disabled" }]);
  else if (body.reasoning_effort) output.effort = body.reasoning_effort;
  if (Object.keys(output).length) fields.push(["output_config", output]);
  // The API has these, the SDK's method no longer does.
  const sampling = SAME.filter((name) => name in body).map((name) => [name, body[name]]);
  if (sampling.length) fields.push(["extra_body", Object.fromEntries(sampling)]);
  return { fields, missing };
}

function messagesOf(messages: readonly Message[]): Fields[] {
  const translated: { role: string; content: unknown }[] = [];
  for (const message of messages) {
    if (message.role === "system") continue;
    if (message.role === "tool") {
      const result = {
        type: "tool_result",
        tool_use_id: message.tool_call_id,
        content: message.content,
      };
      const last = translated.at(-1);
      if (last && Array.isArray(last.content) && last.content[0]?.type === "tool_result") {
        last.content.push(result);
      } else {
        translated.push({ role: "user", content: [result] });
      }
    } else {
      translated.push({ role: message.role, content: contentOf(message) });
    }
  }
  return translated;
}

function contentOf({ content, tool_calls }: Message): unknown {
  if (tool_calls?.length) {
    const uses = tool_calls.map((call) => {
      const { name, arguments: json } = call.function as { name: string; arguments: string };
      return { type: "tool_use", id: call.id, name, input: inputOf(json) };
    });
    return content ? [{ type: "text", text: content }, ...uses] : uses;
  }
  if (!Array.isArray(content)) return content;
  return content.map((part) => {
    if (part.type !== "image_url") return part;
    const { url } = part.image_url as { url: string };
    const [, mediaType = "", data = ""] = /^data:([^;]+);base64,(.*)$/s.exec(url) ?? [];
    return { type: "image", source: { type: "base64", media_type: mediaType, data } };
  });
}

function inputOf(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return {}; // the model was stopped while it wrote them
  }
}

function toolOf(tool: Fields): Fields {
  const { name, description, parameters, strict } = tool.function as Fields;
  return {
    name,
    ...(description !== undefined && { description }),
    input_schema: parameters ?? { type: "object", properties: {} },
    ...(strict !== undefined && { strict }),
  };
}

function choiceOf(choice: NonNullable<ChatBody["tool_choice"]>): Fields {
  return choice === "required" ? { type: "any" } : { type: "none" };
}
