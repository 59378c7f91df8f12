import { describe, expect, test } from "vitest";
import type { ChatBody } from "@/playground/request";
import type { Target } from "./program";
import { programsOf } from "./programs";
import { pythonLiteral } from "./python-literal";

const target: Target = {
  origin: "http://h:8000",
  needsKey: false,
  streams: false,
  contextLen: 2048,
};
const body: ChatBody = {
  model: "m",
  messages: [{ role: "user", content: "Hi" }],
  temperature: 0,
  top_k: 3,
};

function program(name: string, request: ChatBody = body, change: Partial<Target> = {}): string {
  const all = programsOf({ kind: "chat", body: request }, { ...target, ...change });
  const found = all.find((one) => one.name === name);
  if (!found) throw new Error(name);
  return found.code;
}

describe("python", () => {
  test("what the SDK does not know goes into extra_body", () => {
    expect(program("Python")).toContain('    temperature=0,\n    extra_body={"top_k": 3},\n');
  });

  test("a key is read from the environment, never printed", () => {
    const code = program("Python", body, { needsKey: true });
    expect(code).toContain('api_key=os.environ["FIREFRONT_API_KEY"]');
    expect(code.startsWith("import os")).toBe(true);
  });
});

test("curl's text cannot be ended by what a person wrote", () => {
  const hostile = {
    ...body,
    messages: [{ role: "user" as const, content: "\nJSON\n$(rm -rf /) `x` '" }],
  };
  const code = program("curl", hostile);
  expect(code.split("\n").filter((line) => line === "JSON")).toHaveLength(1);
  expect(code).toContain("<<'JSON'");
});

test("Anthropic's SDK has other names, and says what it has none for", () => {
  const request: ChatBody = {
    ...body,
    seed: 1,
    stop: ["x"],
    messages: [
      { role: "system", content: "S" },
      { role: "user", content: "U" },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: '{"a":1}' } }],
      },
      { role: "tool", tool_call_id: "c", content: "42" },
    ],
    tools: [{ type: "function", function: { name: "f", parameters: { type: "object" } } }],
    tool_choice: "required",
  };
  const all = programsOf({ kind: "chat", body: request }, target);
  const { code, missing } = all.find(({ name }) => name === "Anthropic") ?? {
    code: "",
    missing: [],
  };
  for (const part of [
    'system="S"',
    "max_tokens=2048",
    'stop_sequences=["x"]',
    '"tool_use", "id": "c", "name": "f", "input": {"a": 1}',
    '"tool_result", "tool_use_id": "c", "content": "42"',
    'tool_choice={"type": "any"}',
    '"input_schema": {"type": "object"}',
  ]) {
    expect(code).toContain(part);
  }
  expect(missing).toEqual(["seed"]);
});

test("thinking and an expected answer, as each SDK knows them", () => {
  const prediction = { type: "content" as const, content: "x" };
  const request: ChatBody = { ...body, reasoning_effort: "low", prediction };
  expect(program("Python", request)).toContain('    reasoning_effort="low",\n    prediction={');
  expect(program("Anthropic", request)).toContain('output_config={"effort": "low"}');
  expect(program("LangChain", request)).toMatch(/extra_body=\{"top_k": 3, "prediction": \{/);
  const silent = program("Anthropic", { ...request, reasoning_effort: "none" });
  expect(silent).toContain('thinking={"type": "disabled"}');
});

test("a completion has no chat program", () => {
  const names = programsOf({ kind: "completion", body: { model: "m", prompt: "x" } }, target).map(
    ({ name }) => name,
  );
  expect(names).toEqual(["curl", "Python", "JavaScript"]);
});

describe("pythonLiteral", () => {
  test.each([
    [null, "None"],
    [[true, false], "[True, False]"],
    [{ a: 'ü"\n' }, '{"a": "ü\\"\\n"}'],
    [0.1, "0.1"],
  ])("%j", (value, expected) => expect(pythonLiteral(value)).toBe(expected));

  test("long values take a line an item", () => {
    expect(pythonLiteral(["x".repeat(50), "y".repeat(50)])).toBe(
      `[\n    "${"x".repeat(50)}",\n    "${"y".repeat(50)}",\n]`,
    );
  });
});
