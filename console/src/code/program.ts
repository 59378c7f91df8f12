import type { ChatBody, CompletionBody } from "@/playground/request";

/** A request to print as a program: what a run sends, without what only the console wants. */
export type Printable =
  | { readonly kind: "chat"; readonly body: ChatBody }
  | { readonly kind: "completion"; readonly body: CompletionBody };

export interface Target {
  /** The server's address, without `/v1`. */
  readonly origin: string;
  /** The server wants a key: the program reads it from FIREFRONT_API_KEY. */
  readonly needsKey: boolean;
  readonly streams: boolean;
  /** The model's context, for an API that wants a limit on every answer. */
  readonly contextLen: number | null;
}

export interface Program {
  readonly name: string;
  /** For the code's frame: python, js, bash. */
  readonly language: string;
  readonly install: string;
  readonly code: string;
  /** What this API has no word for. */
  readonly missing: readonly string[];
}

export const KEY_VARIABLE = "FIREFRONT_API_KEY";

/** Fields that the official OpenAI SDK's chat method knows; others go in its `extra_body`. */
const KNOWN = new Set([
  "model",
  "messages",
  "prompt",
  "temperature",
  "max_tokens",
  "top_p",
  "seed",
  "presence_penalty",
  "frequency_penalty",
  "stop",
  "logprobs",
  "top_logprobs",
  "tools",
  "tool_choice",
  "response_format",
  "logit_bias",
  "reasoning_effort",
  "prediction",
]);

/** The body's fields, apart: those the SDK has parameters for (but `unknown`), and the rest. */
export function split(
  body: object,
  unknown = "",
): { known: [string, unknown][]; extra: [string, unknown][] } {
  const fields = Object.entries(body);
  const isKnown = ([name]: [string, unknown]) => KNOWN.has(name) && name !== unknown;
  return { known: fields.filter(isKnown), extra: fields.filter((field) => !isKnown(field)) };
}
