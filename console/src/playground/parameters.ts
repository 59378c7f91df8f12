/**
 * The sampling parameters: one table from which the panel draws its controls, the request its fields
 * and a stored session its schema.
 */
export interface Parameter {
  readonly key: ParameterKey;
  readonly label: string;
  readonly help: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  /** What the server takes where nothing is sent. */
  readonly usual: number | null;
  readonly isAdvanced: boolean;
}

export const PARAMETER_KEYS = [
  "temperature",
  "max_tokens",
  "top_p",
  "top_k",
  "min_p",
  "seed",
  "presence_penalty",
  "frequency_penalty",
  "repetition_penalty",
  "min_tokens",
] as const;
export type ParameterKey = (typeof PARAMETER_KEYS)[number];

function parameter(
  key: ParameterKey,
  label: string,
  [min, max, step]: [number, number, number],
  usual: number | null,
  help: string,
  isAdvanced = true,
): Parameter {
  return { key, label, help, min, max, step, usual, isAdvanced };
}

export const PARAMETERS: readonly Parameter[] = [
  parameter(
    "temperature",
    "Temperature",
    [0, 2, 0.05],
    1,
    "How much chance there is in the choice of words. 0 always takes the likeliest: best for facts and code. Near 1 answers vary.",
    false,
  ),
  parameter(
    "max_tokens",
    "Longest answer",
    [1, 1_000_000, 1],
    null,
    "The answer ends after so many tokens (a token is about three quarters of a word). Empty: as long as the model's context allows.",
    false,
  ),
  parameter(
    "top_p",
    "Top P",
    [0.01, 1, 0.01],
    1,
    "Only the likeliest words that together have this probability are considered. Lower is safer and duller.",
    false,
  ),
  parameter(
    "seed",
    "Seed",
    [0, 4_294_967_295, 1],
    null,
    "The same seed with the same request gives the same answer. Empty: another answer each time.",
    false,
  ),
  parameter(
    "top_k",
    "Top K",
    [0, 1000, 1],
    0,
    "Only so many of the likeliest tokens are considered. 0: all of them.",
  ),
  parameter(
    "min_p",
    "Min P",
    [0, 1, 0.01],
    0,
    "Tokens less likely than this share of the likeliest are dropped. 0.05 to 0.1 keeps high temperatures sensible.",
  ),
  parameter(
    "presence_penalty",
    "Presence penalty",
    [-2, 2, 0.1],
    0,
    "Above 0 discourages words that were said already, however often: new topics.",
  ),
  parameter(
    "frequency_penalty",
    "Frequency penalty",
    [-2, 2, 0.1],
    0,
    "Above 0 discourages words the more, the more often they were said: less repetition.",
  ),
  parameter(
    "repetition_penalty",
    "Repetition penalty",
    [0.1, 2, 0.05],
    1,
    "Above 1 discourages all words of the prompt and the answer. 1.1 is usual for small models that repeat themselves.",
  ),
  parameter(
    "min_tokens",
    "Shortest answer",
    [0, 1_000_000, 1],
    0,
    "The answer cannot end before so many tokens.",
  ),
];
