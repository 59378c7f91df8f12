import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useEffect, useState } from "react";
import * as v from "valibot";
import { postJson } from "@/api/client";
import { asProblem } from "@/api/errors";
import { formOf } from "./request";
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
  const settled = useSettled(useDeferredValue(settings));
  const { body, problem } = bodyOf(settled);
  const { data, error } = useQuery({
    queryKey: ["check", body],
    enabled: body !== null,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    queryFn: async ({ signal }) => {
      const response = await postJson("/v1/schemas:check", body, signal);
      return v.parse(Verdict, await response.json());
    },
  });
  if (problem) return { problem, note: null };
  if (error) return { problem: asProblem(error).message, note: null };
  if (!body || !data) return { problem: null, note: null };
  if (data.ok) {
    const note = `Can be honoured; compiled in ${(data.compile_ms ?? 0).toFixed(1)} ms.`;
    return { problem: null, note };
  }
  const lines = data.errors.map(({ pointer, message }) =>
    pointer ? `${pointer}: ${message}` : message,
  );
  return { problem: lines.join("\n"), note: null };
}

/** What a request with this form would say of it; null where there is nothing to ask. */
function bodyOf(settings: Settings): { body: object | null; problem: string | null } {
  if (!settings.form.trim() || !settings.model) return { body: null, problem: null };
  try {
    const form = formOf(settings);
    const isForm = Object.keys(form).length > 0;
    return { body: isForm ? { model: settings.model, ...form } : null, problem: null };
  } catch (error) {
    return { body: null, problem: (error as Error).message };
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
