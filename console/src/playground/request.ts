import type { components } from "@/api/openapi";
import { PARAMETERS } from "./parameters";
import type { Settings } from "./settings";
import type { Turn } from "./turns";

export type ChatBody = Pick<components["schemas"]["ChatRequest"], "model" | "messages"> &
  Partial<components["schemas"]["ChatRequest"]>;
export type CompletionBody = Pick<components["schemas"]["CompletionRequest"], "model" | "prompt"> &
  Partial<components["schemas"]["CompletionRequest"]>;

/** Something in the settings that cannot be sent. `field` is the control to look at. */
export class SettingsError extends Error {
  constructor(
    readonly field: "tools" | "form" | "bias",
    message: string,
  ) {
    super(message);
  }
}

/** The request that a lane stands for, without what only a run wants. Throws SettingsError. */
export function chatBody(settings: Settings, turns: readonly Turn[]): ChatBody {
  const body: ChatBody = { model: settings.model, messages: messagesOf(settings, turns) };
  Object.assign(body, samplingOf(settings), formOf(settings));
  if (settings.effort) body.reasoning_effort = settings.effort;
  if (settings.prediction) body.prediction = { type: "content", content: settings.prediction };
  const tools = toolsOf(settings);
  if (tools.length) {
    body.tools = tools;
    if (settings.toolChoice !== "auto") body.tool_choice = settings.toolChoice;
  }
  if (settings.logprobs !== null) {
    body.logprobs = true;
    if (settings.logprobs) body.top_logprobs = settings.logprobs;
  }
  return body;
}

/** The same for a plain completion of `prompt`. */
export function completionBody(settings: Settings, prompt: string): CompletionBody {
  const body: CompletionBody = { model: settings.model, prompt };
  Object.assign(body, samplingOf(settings), formOf(settings));
  if (settings.logprobs !== null) body.logprobs = settings.logprobs;
  return body;
}

/** What a run adds: counts of tokens come with every event. */
export function streamed<B extends ChatBody | CompletionBody>(body: B): B {
  return {
    ...body,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
}

function messagesOf(settings: Settings, turns: readonly Turn[]): ChatBody["messages"] {
  const messages: ChatBody["messages"] = [];
  if (settings.system.trim()) messages.push({ role: "system", content: settings.system });
  for (const turn of turns) messages.push(messageOf(turn));
  return messages;
}

function messageOf(turn: Turn): ChatBody["messages"][number] {
  if (turn.role === "tool") {
    return { role: "tool", tool_call_id: turn.callId, content: turn.content };
  }
  if (turn.role === "user" && turn.images.length) {
    const images = turn.images.map((url) => ({ type: "image_url", image_url: { url } }));
    return { role: "user", content: [{ type: "text", text: turn.content }, ...images] };
  }
  if (turn.calls.length) {
    const calls = turn.calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    }));
    return { role: "assistant", content: turn.content || null, tool_calls: calls };
  }
  return { role: turn.role, content: turn.content };
}

function samplingOf(settings: Settings): Partial<ChatBody> {
  const given: Partial<ChatBody> = {};
  for (const { key } of PARAMETERS) {
    const value = settings.sampling[key];
    if (value !== null && value !== undefined) given[key] = value;
  }
  if (settings.stop.length) given.stop = settings.stop;
  if (settings.bias.trim()) {
    const bias = parseJson(settings.bias, "bias", "The bias of tokens");
    given.logit_bias = bias as Record<string, number>;
  }
  return given;
}

/** The form of the answer, as fields of a request. Throws SettingsError. */
export function formOf(settings: Settings): Partial<ChatBody> {
  const { format, form } = settings;
  switch (format) {
    case "text":
      return {};
    case "json_object":
      return { response_format: { type: "json_object" } };
    case "json_schema": {
      const schema = parseJson(form, "form", "The JSON schema");
      return {
        response_format: {
          type: "json_schema",
          json_schema: { name: "answer", strict: true, schema },
        },
      };
    }
    case "regex":
      return { structured_outputs: { regex: form } };
    case "choice":
      return { structured_outputs: { choice: choicesOf(form) } };
    case "grammar":
      return { structured_outputs: { grammar: form } };
  }
}

function choicesOf(form: string): string[] {
  return form.split("\n").filter((line) => line.trim());
}

/** The tools that are written in the settings; both `{name, parameters}` and OpenAI's form. */
export function toolsOf(settings: Settings): Record<string, unknown>[] {
  if (!settings.tools.trim()) return [];
  const parsed = parseJson(settings.tools, "tools", "The list of tools");
  const list = Array.isArray(parsed) ? parsed : [parsed];
  return list.map((tool: unknown) => {
    if (typeof tool !== "object" || tool === null) {
      throw new SettingsError("tools", "The list of tools: each must be an object with a name.");
    }
    if (!("function" in tool)) return { type: "function", function: tool };
    if (typeof tool.function !== "object" || tool.function === null) {
      throw new SettingsError(
        "tools",
        "The list of tools: function must be an object with a name.",
      );
    }
    return tool as Record<string, unknown>;
  });
}

function parseJson(source: string, field: SettingsError["field"], what: string): unknown {
  try {
    return JSON.parse(source);
  } catch (error) {
    throw new SettingsError(field, `${what} is not JSON: ${(error as Error).message}`);
  }
}
