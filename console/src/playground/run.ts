import * as v from "valibot";
import { costOf, type Model } from "@/api/models";
import { streamJson } from "@/api/stream";
import { type ChatBody, type CompletionBody, streamed } from "./request";
import type { Figures, TokenLogprob, ToolCall, Turn } from "./turns";

/**
 * One answer as it streams. `answer` always is what came so far; `onChange` is called at most once a
 * frame, however fast tokens come.
 */
const Logprob = v.object({ token: v.string(), logprob: v.number() });
const Usage = v.nullish(
  v.object({
    prompt_tokens: v.number(),
    completion_tokens: v.number(),
    prompt_tokens_details: v.nullish(v.object({ cached_tokens: v.nullish(v.number()) })),
  }),
);
const Chunk = v.object({
  choices: v.array(
    v.object({
      delta: v.object({
        content: v.nullish(v.string()),
        reasoning: v.nullish(v.string()),
        reasoning_content: v.nullish(v.string()),
        tool_calls: v.nullish(
          v.array(
            v.object({
              index: v.number(),
              id: v.nullish(v.string()),
              function: v.nullish(
                v.object({ name: v.nullish(v.string()), arguments: v.nullish(v.string()) }),
              ),
            }),
          ),
        ),
      }),
      logprobs: v.nullish(
        v.object({
          content: v.nullish(
            v.array(v.object({ ...Logprob.entries, top_logprobs: v.array(Logprob) })),
          ),
        }),
      ),
      finish_reason: v.nullish(v.string()),
    }),
  ),
  usage: Usage,
});
type Chunk = v.InferOutput<typeof Chunk>;

/** The same of a plain completion, in the older shape. */
const TextChunk = v.object({
  choices: v.array(
    v.object({
      text: v.string(),
      logprobs: v.nullish(
        v.object({
          tokens: v.array(v.string()),
          token_logprobs: v.array(v.nullable(v.number())),
          top_logprobs: v.nullish(v.array(v.nullable(v.record(v.string(), v.number())))),
        }),
      ),
      finish_reason: v.nullish(v.string()),
    }),
  ),
  usage: Usage,
});

/** When how many tokens were there: (seconds since the request, tokens). */
export type Timeline = readonly (readonly [number, number])[];

export class Stopwatch {
  private readonly started = performance.now();
  private first: number | null = null;
  private last: number | null = null;
  private tokens = 0;
  /** At most some 200 of them. */
  readonly timeline: [number, number][] = [];

  /** Something has come; so many tokens are there by now. */
  saw(tokens: number): void {
    const now = performance.now();
    this.first ??= now;
    this.last = now;
    this.tokens = tokens;
    const elapsed_s = (now - this.started) / 1e3;
    const before_s = this.timeline.at(-1)?.[0] ?? Number.NEGATIVE_INFINITY;
    if (elapsed_s - before_s >= elapsed_s / 100) this.timeline.push([elapsed_s, tokens]);
  }

  figures(): Pick<Figures, "ttft_s" | "total_s" | "tokens_s"> {
    const spent = this.first === null || this.last === null ? 0 : this.last - this.first;
    return {
      ttft_s: this.first === null ? null : (this.first - this.started) / 1e3,
      total_s: ((this.last ?? performance.now()) - this.started) / 1e3,
      tokens_s: spent > 0 && this.tokens > 1 ? ((this.tokens - 1) / spent) * 1e3 : null,
    };
  }
}

export class Answer {
  readonly watch = new Stopwatch();
  private readonly content: string[] = [];
  private readonly reasoning: string[] = [];
  private readonly calls: ToolCall[] = [];
  private readonly logprobs: TokenLogprob[] = [];
  private usage: Chunk["usage"] = null;
  private finish: string | null = null;

  constructor(private readonly model: Model | undefined) {}

  addCompletion(event: unknown): void {
    const { choices, usage } = v.parse(TextChunk, event);
    const choice = choices[0];
    this.usage = usage ?? this.usage;
    if (choice?.text) {
      this.content.push(choice.text);
      this.watch.saw(this.numTokens);
    }
    choice?.logprobs?.tokens.forEach((token, index) => {
      const { token_logprobs, top_logprobs } = choice.logprobs ?? {};
      const top = Object.entries(top_logprobs?.[index] ?? {});
      this.logprobs.push({
        token,
        logprob: token_logprobs?.[index] ?? 0,
        top: top.map(([other, logprob]) => ({ token: other, logprob })),
      });
    });
    this.finish = choice?.finish_reason ?? this.finish;
  }

  addChat(event: unknown): void {
    const { choices, usage } = v.parse(Chunk, event);
    const choice = choices[0];
    this.usage = usage ?? this.usage;
    if (!choice) return;
    const { content, reasoning, reasoning_content, tool_calls } = choice.delta;
    const thought = reasoning ?? reasoning_content;
    if (content) this.content.push(content);
    if (thought) this.reasoning.push(thought);
    for (const call of tool_calls ?? []) this.addCall(call);
    for (const { token, logprob, top_logprobs } of choice.logprobs?.content ?? []) {
      this.logprobs.push({ token, logprob, top: top_logprobs });
    }
    if (content || thought || tool_calls?.length) this.watch.saw(this.numTokens);
    this.finish = choice.finish_reason ?? this.finish;
  }

  /** What is known so far, as fields of a turn. */
  snapshot(): Partial<Turn> {
    return {
      content: join(this.content),
      reasoning: join(this.reasoning),
      calls: this.calls.map((call) => ({ ...call })),
      logprobs: this.logprobs.slice(),
      finish: this.finish,
      figures: this.figures(),
    };
  }

  private get numTokens(): number {
    return this.usage?.completion_tokens ?? this.logprobs.length;
  }

  private figures(): Figures {
    const { prompt_tokens: tokens_in = null, completion_tokens: tokens_out = null } =
      this.usage ?? {};
    const isKnown = tokens_in !== null && tokens_out !== null;
    return {
      ...this.watch.figures(),
      tokens_in,
      tokens_cached: this.usage?.prompt_tokens_details?.cached_tokens ?? null,
      tokens_out,
      cost: isKnown ? costOf(this.model, tokens_in, tokens_out) : null,
    };
  }

  private addCall(
    part: NonNullable<Chunk["choices"][number]["delta"]["tool_calls"]>[number],
  ): void {
    const call = this.calls[part.index] ?? { id: "", name: "", arguments: "" };
    this.calls[part.index] = call;
    call.id = part.id ?? call.id;
    call.name += part.function?.name ?? "";
    call.arguments += part.function?.arguments ?? "";
  }
}

/** Runs a chat, or a completion, to its end. The promise is kept when the answer is whole, broken by a
 * Problem or an abort. */
export async function run(
  body: ChatBody | CompletionBody,
  model: Model | undefined,
  signal: AbortSignal,
  onChange: (soFar: Partial<Turn>, timeline: Timeline) => void,
): Promise<void> {
  const answer = new Answer(model);
  const frame = new OncePerFrame(() => onChange(answer.snapshot(), [...answer.watch.timeline]));
  const isChat = "messages" in body;
  const path = isChat ? "/v1/chat/completions" : "/v1/completions";
  try {
    for await (const event of streamJson(path, streamed(body), signal)) {
      if (isChat) answer.addChat(event);
      else answer.addCompletion(event);
      frame.ask();
    }
  } finally {
    frame.now();
  }
}

/** Calls `draw` in the next frame, once, however often it is asked; in a hidden tab after a while. */
export class OncePerFrame {
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly draw: () => void) {}

  ask(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => this.now());
    this.timer = setTimeout(() => this.now(), 250);
  }

  now(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.frame = 0;
    this.draw();
  }
}

/** Joins the pieces and keeps the result as their only piece, so that joining again costs little. */
function join(pieces: string[]): string {
  const text = pieces.join("");
  pieces.length = 0;
  if (text) pieces.push(text);
  return text;
}
