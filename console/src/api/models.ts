import { useQuery } from "@tanstack/react-query";
import * as v from "valibot";
import { send } from "./client";

const Adapter = v.object({ rank: v.number() });
const Pricing = v.object({ prompt: v.string(), completion: v.string() });

const Model = v.object({
  id: v.string(),
  parent: v.optional(v.nullable(v.string()), null),
  max_model_len: v.optional(v.nullable(v.number()), null),
  num_parameters: v.optional(v.nullable(v.number()), null),
  weight_bytes: v.optional(v.nullable(v.number()), null),
  format: v.optional(v.nullable(v.string()), null),
  has_chat_template: v.optional(v.nullable(v.boolean()), null),
  architecture: v.optional(v.object({ input_modalities: v.array(v.string()) }), {
    input_modalities: ["text"],
  }),
  pricing: v.optional(v.nullable(Pricing), null),
  adapter: v.optional(v.nullable(Adapter), null),
});
const ModelList = v.object({ data: v.array(Model) });

/** A model that a request may name. `parent` is the base of an adapter. */
export type Model = v.InferOutput<typeof Model>;

/** The models that this server runs, asked for again while one of them loads. */
export function useModels() {
  return useQuery({
    queryKey: ["models"],
    queryFn: async ({ signal }) => {
      const response = await send("/v1/models", { signal });
      return v.parse(ModelList, await response.json()).data;
    },
    refetchInterval: (query) =>
      query.state.error || query.state.data?.some((model) => model.max_model_len === null)
        ? 2_000
        : 30_000,
    retry: false,
  });
}

/** Dollars for tokens in and out; null where the server names no price. */
export function costOf(
  model: Model | undefined,
  tokensIn: number,
  tokensOut: number,
): number | null {
  if (!model?.pricing) return null;
  return tokensIn * Number(model.pricing.prompt) + tokensOut * Number(model.pricing.completion);
}

export function takesImages(model: Model | undefined): boolean {
  return model?.architecture.input_modalities.includes("image") ?? false;
}
