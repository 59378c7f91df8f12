import * as v from "valibot";
import { MAX_TEXT } from "./settings";

/** A conversation as it is shown, kept and shared. */
const text = (most = MAX_TEXT) => v.pipe(v.string(), v.maxLength(most));
const number = () => v.nullable(v.pipe(v.number(), v.finite()));

export const TokenLogprob = v.object({
  token: text(1000),
  logprob: v.number(),
  top: v.pipe(v.array(v.object({ token: text(1000), logprob: v.number() })), v.maxLength(20)),
});
export type TokenLogprob = v.InferOutput<typeof TokenLogprob>;

export const ToolCall = v.object({ id: text(200), name: text(200), arguments: text() });
export type ToolCall = v.InferOutput<typeof ToolCall>;

/** What a run cost in time and tokens. Seconds are the browser's, from sending the request. */
export const Figures = v.object({
  ttft_s: number(),
  total_s: number(),
  tokens_in: number(),
  tokens_cached: number(),
  tokens_out: number(),
  tokens_s: number(),
  cost: number(),
});
export type Figures = v.InferOutput<typeof Figures>;

export const Turn = v.object({
  id: text(100),
  role: v.picklist(["user", "assistant", "tool"]),
  content: text(2_000_000),
  reasoning: v.optional(text(2_000_000), ""),
  images: v.optional(
    v.pipe(v.array(v.pipe(text(20_000_000), v.regex(/^data:image\//))), v.maxLength(8)),
    [],
  ),
  calls: v.optional(v.pipe(v.array(ToolCall), v.maxLength(128)), []),
  /** Of a tool's turn: the call that it answers. */
  callId: v.optional(text(200), ""),
  finish: v.optional(v.nullable(text(50)), null),
  figures: v.optional(v.nullable(Figures), null),
  logprobs: v.optional(v.array(TokenLogprob), []),
  model: v.optional(text(500), ""),
});
export type Turn = v.InferOutput<typeof Turn>;

export function newTurn(role: Turn["role"], content: string, rest: Partial<Turn> = {}): Turn {
  return { ...v.parse(Turn, { id: crypto.randomUUID(), role, content }), ...rest };
}

/** The turns that the last answer was given to, or all where none was given yet. */
export function asked(turns: readonly Turn[]): readonly Turn[] {
  const last = turns.findLastIndex((turn) => turn.role !== "assistant");
  return turns.slice(0, last + 1);
}

/** A JSON object or list, laid out; null for other text. */
export function asJson(text: string): string | null {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}
