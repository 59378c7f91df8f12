import * as v from "valibot";
import { expect, test } from "vitest";
import { chatBody, completionBody, SettingsError } from "./request";
import { Settings } from "./settings";
import { newTurn } from "./turns";

function settings(part: object): Settings {
  return v.parse(Settings, { model: "m", ...part });
}

test("only what was set is sent", () => {
  expect(chatBody(settings({}), [newTurn("user", "Hi")])).toEqual({
    model: "m",
    messages: [{ role: "user", content: "Hi" }],
  });
});

test("sampling, stops, instructions and log-probabilities", () => {
  const set = settings({
    system: "Be brief.",
    sampling: { temperature: 0, top_k: 5, seed: null },
    stop: ["\n"],
    logprobs: 5,
  });
  expect(chatBody(set, [])).toEqual({
    model: "m",
    messages: [{ role: "system", content: "Be brief." }],
    temperature: 0,
    top_k: 5,
    stop: ["\n"],
    logprobs: true,
    top_logprobs: 5,
  });
  expect(completionBody(set, "Once")).toMatchObject({ prompt: "Once", logprobs: 5 });
});

test("tools, their calls and results", () => {
  const set = settings({ tools: '[{"name": "f", "parameters": {}}]', toolChoice: "required" });
  const call = { id: "call_1", name: "f", arguments: "{}" };
  const turns = [
    newTurn("user", "Go"),
    newTurn("assistant", "", { calls: [call] }),
    newTurn("tool", "42", { callId: "call_1" }),
  ];
  expect(chatBody(set, turns)).toEqual({
    model: "m",
    messages: [
      { role: "user", content: "Go" },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "call_1", type: "function", function: { name: "f", arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "call_1", content: "42" },
    ],
    tools: [{ type: "function", function: { name: "f", parameters: {} } }],
    tool_choice: "required",
  });
});

test("images become parts", () => {
  const url = "data:image/png;base64,AA==";
  const { messages } = chatBody(settings({}), [newTurn("user", "What?", { images: [url] })]);
  expect(messages[0]?.content).toEqual([
    { type: "text", text: "What?" },
    { type: "image_url", image_url: { url } },
  ]);
});

test("forms of the answer", () => {
  const schema = { type: "object" };
  expect(
    chatBody(settings({ format: "json_schema", form: JSON.stringify(schema) }), []),
  ).toMatchObject({
    response_format: { type: "json_schema", json_schema: { strict: true, schema } },
  });
  expect(chatBody(settings({ format: "choice", form: "a\n\nb\n" }), [])).toMatchObject({
    structured_outputs: { choice: ["a", "b"] },
  });
});

test("thinking, biases and an expected answer", () => {
  const set = settings({ effort: "none", bias: '{"5": -100}', prediction: "x" });
  expect(chatBody(set, [])).toMatchObject({
    reasoning_effort: "none",
    logit_bias: { "5": -100 },
    prediction: { type: "content", content: "x" },
  });
  expect(completionBody(set, "Once")).toEqual({
    model: "m",
    prompt: "Once",
    logit_bias: { "5": -100 },
  });
  expect(() => chatBody(settings({ bias: "{5" }), [])).toThrow(/bias of tokens is not JSON/);
});

test("tools that are no objects are named", () => {
  for (const tools of ["[5]", "[null]", '[{"function": 5}]']) {
    expect(() => chatBody(settings({ tools }), [])).toThrow(/list of tools/);
  }
});

test("what is not JSON is named", () => {
  expect(() => chatBody(settings({ tools: "[" }), [])).toThrow(SettingsError);
  expect(() => chatBody(settings({ format: "json_schema", form: "{" }), [])).toThrow(
    /schema is not JSON/,
  );
});
