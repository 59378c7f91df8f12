import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useEffect, useState } from "react";
import * as v from "valibot";
import { postJson } from "@/api/client";
import { asProblem } from "@/api/errors";
import { choicesOf } from "./request";
import type { Settings } from "./settings";

/** What the server says of the form that an answer must have, asked half a second after it was written. */
const Verdict = v.object({
  ok: v.boolean(),
  errors: v.array(v.object({ pointer: v.string(), message: v.string() })),
  ignored: v.array(v.unknown()),
  compile_ms: v.nullish(v.number()),
});

export interface FormCheck {
  readonly problem: string | null;
  readonly note: string | null;
}

export function useFormCheck(settings: Settings): FormCheck {
  const { format, form, model } = useSettled(useDeferredValue(settings));
  const { body, problem } = bodyOf(format, form);
  const { data, error } = useQuery({
    queryKey: ["check", model, body],
    enabled: body !== null && model !== "",
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    queryFn: async ({ signal }) => {
      const response = await postJson("/v1/schemas:check", { ...body, model }, signal);
      return v.parse(Verdict, await response.json());
    },
  });
  if (problem) return { problem, note: null };
  if (error) return { problem: asProblem(error).message, note: null };
  if (!body || !data) return { problem: null, note: null };
  if (data.ok)
    return {
      problem: null,
      note: `Can be honoured; compiled in ${(data.compile_ms ?? 0).toFixed(1)} ms.`,
    };
  const lines = data.errors.map(({ pointer, message }) =>
    pointer ? `${pointer}: ${message}` : message,
  );
  return { problem: lines.join("\n"), note: null };
}

function bodyOf(
  format: Settings["format"],
  form: string,
): { body: object | null; problem: string | null } {
  if (!form.trim()) return { body: null, problem: null };
  switch (format) {
    case "json_schema":
      try {
        return { body: { schema: JSON.parse(form) }, problem: null };
      } catch (error) {
        return { body: null, problem: `Not JSON: ${(error as Error).message}` };
      }
    case "regex":
      return { body: { regex: form }, problem: null };
    case "choice":
      return { body: { choice: choicesOf(form) }, problem: null };
    case "grammar":
      return { body: { grammar: form }, problem: null };
    default:
      return { body: null, problem: null };
  }
}

function useSettled<T>(value: T): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), 500);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
