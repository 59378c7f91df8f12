import type { ChatBody } from "@/playground/request";
import { type Program, split, type Target } from "./program";
import { pythonKey } from "./python";
import { pythonArguments, pythonLiteral } from "./python-literal";

/** A chat with LangChain. Tools and the answer's form are bound to the model, the rest makes it. */
const BOUND = new Set(["tools", "tool_choice", "response_format", "messages"]);

export function langchainProgram(body: ChatBody, target: Target): Program {
  const { known, extra } = split(body, "prediction");
  const fields: [string, unknown][] = known.filter(([name]) => !BOUND.has(name));
  if (extra.length) fields.push(["extra_body", Object.fromEntries(extra)]);
  const binds: string[] = [];
  if (body.tools) {
    const choice = body.tool_choice ? `, tool_choice=${pythonLiteral(body.tool_choice)}` : "";
    binds.push(`model = model.bind_tools(${pythonLiteral(body.tools)}${choice})`);
  }
  if (body.response_format) {
    binds.push(`model = model.bind(response_format=${pythonLiteral(body.response_format)})`);
  }
  const use = target.streams
    ? [
        "for chunk in model.stream(messages):",
        '    print(chunk.text, end="", flush=True)',
        "print()",
      ]
    : [
        "answer = model.invoke(messages)",
        "print(answer.text)",
        ...(body.tools
          ? ["for call in answer.tool_calls:", '    print(call["name"], call["args"])']
          : []),
      ];
  const code = [
    ...(target.needsKey ? ["import os", ""] : []),
    "from langchain_openai import ChatOpenAI",
    "",
    "model = ChatOpenAI(",
    `    base_url="${target.origin}/v1",`,
    `    api_key=${pythonKey(target)},`,
    `${pythonArguments(fields)})`,
    ...binds,
    `messages = ${pythonLiteral(body.messages)}`,
    ...use,
    "",
  ].join("\n");
  return {
    name: "LangChain",
    language: "python",
    install: "pip install langchain-openai",
    code,
    missing: [],
  };
}
