import * as v from "valibot";
import { PARAMETERS } from "./parameters";

/**
 * What a request needs beside the conversation. Comes from a form, a link or the browser's store, so
 * a schema reads it: what is missing gets its default, what is wrong is an error.
 */
const number = (min: number, max: number) =>
  v.optional(v.nullable(v.pipe(v.number(), v.minValue(min), v.maxValue(max))), null);
const text = (most: number) => v.optional(v.pipe(v.string(), v.maxLength(most)), "");

export const MAX_TEXT = 200_000;

const Sampling = v.object(
  Object.fromEntries(PARAMETERS.map(({ key, min, max }) => [key, number(min, max)])) as Record<
    (typeof PARAMETERS)[number]["key"],
    ReturnType<typeof number>
  >,
);

export const FORMATS = [
  "text",
  "json_object",
  "json_schema",
  "regex",
  "choice",
  "grammar",
] as const;
export type Format = (typeof FORMATS)[number];

export const Settings = v.object({
  model: text(500),
  system: text(MAX_TEXT),
  sampling: v.optional(Sampling, {}),
  stop: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(200))), v.maxLength(16)), []),
  format: v.optional(v.picklist(FORMATS), "text"),
  /** The schema, expression, choices (one a line) or grammar that `format` means. */
  form: text(MAX_TEXT),
  /** A JSON list of tools, as a person writes it. */
  tools: text(MAX_TEXT),
  /** How much to think first, for models that do; empty: as the model is used to. */
  effort: v.optional(v.picklist(["", "none", "low", "medium", "high"]), ""),
  /** A JSON object from token ids to what is added to their logits. */
  bias: text(MAX_TEXT),
  /** A text that much of the answer will be a copy of. */
  prediction: text(MAX_TEXT),
  toolChoice: v.optional(v.picklist(["auto", "required", "none"]), "auto"),
  /** Show this many alternatives for each token; null: no log-probabilities. */
  logprobs: v.optional(
    v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(20))),
    null,
  ),
});
export type Settings = v.InferOutput<typeof Settings>;

/** What a new lane begins with: small models ramble at the server's own temperature of 1. */
export const defaultSettings = (): Settings =>
  v.parse(Settings, { sampling: { temperature: 0.4, top_p: 0.9 } });
