import { useQueries, useQuery } from "@tanstack/react-query";
import { useDeferredValue, useEffect, useState } from "react";
import * as v from "valibot";
import { postJson } from "@/api/client";
import { asProblem } from "@/api/errors";
import { formOf, toolsOf } from "./request";
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
  const { data, error } = useQuery(asked(body));
  if (problem) return { problem, note: null };
  if (error) return { problem: asProblem(error).message, note: null };
  if (!body || !data) return { problem: null, note: null };
  if (data.ok) {
    const note = `Can be honoured; compiled in ${(data.compile_ms ?? 0).toFixed(1)} ms.`;
    return { problem: null, note };
  }
  return { problem: linesOf(data).join("\n"), note: null };
}

/** The same of the schemas of the tools' parameters. */
export function useToolsCheck(settings: Settings): string | null {
  const settled = useSettled(useDeferredValue(settings));
  const { tools, problem } = parametersOf(settled);
  const checks = useQueries({ queries: tools.map(({ body }) => asked(body)) });
  if (problem) return problem;
  const lines = checks.flatMap(({ data, error }, index) => {
    const found = error ? [asProblem(error).message] : data ? linesOf(data) : [];
    return found.map((line) => `${tools[index]?.name}: ${line}`);
  });
  return lines.join("\n") || null;
}

function asked(body: object | null) {
  return {
    queryKey: ["check", body],
    enabled: body !== null,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    queryFn: async ({ signal }: { signal: AbortSignal }) => {
      const response = await postJson("/v1/schemas:check", body, signal);
      return v.parse(Verdict, await response.json());
    },
  };
}

function linesOf({ errors }: v.InferOutput<typeof Verdict>): string[] {
  return errors.map(({ pointer, message }) => (pointer ? `${pointer}: ${message}` : message));
}

interface Parameters {
  tools: { name: string; body: object | null }[];
  problem: string | null;
}

function parametersOf(settings: Settings): Parameters {
  try {
    const tools = toolsOf(settings).map((tool) => {
      const { name, parameters } = tool.function as Record<string, unknown>;
      const isSchema = typeof parameters === "object" && parameters !== null;
      const body =
        isSchema && settings.model ? { model: settings.model, schema: parameters } : null;
      return { name: String(name), body };
    });
    return { tools, problem: null };
  } catch (error) {
    return { tools: [], problem: (error as Error).message };
  }
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
