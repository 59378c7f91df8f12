import { expect, test } from "vitest";
import { Answer } from "./run";

const chunk = (delta: object, rest: object = {}) => ({ choices: [{ delta, ...rest }] });

test("adds up text, thought, calls and log-probabilities", () => {
  const answer = new Answer(undefined);
  answer.addChat(chunk({ role: "assistant", content: "" }));
  answer.addChat(chunk({ reasoning: "hm" }));
  answer.addChat(
    chunk(
      { content: "Hel" },
      { logprobs: { content: [{ token: "Hel", logprob: -0.1, top_logprobs: [] }] } },
    ),
  );
  answer.addChat(chunk({ content: "lo" }));
  answer.addChat(
    chunk({ tool_calls: [{ index: 0, id: "c", function: { name: "f", arguments: '{"a"' } }] }),
  );
  answer.addChat(chunk({ tool_calls: [{ index: 0, function: { arguments: ":1}" } }] }));
  answer.addChat(chunk({}, { finish_reason: "tool_calls" }));
  answer.addChat({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 9 } });
  expect(answer.snapshot()).toMatchObject({
    content: "Hello",
    reasoning: "hm",
    calls: [{ id: "c", name: "f", arguments: '{"a":1}' }],
    logprobs: [{ token: "Hel", logprob: -0.1, top: [] }],
    finish: "tool_calls",
    figures: { tokens_in: 7, tokens_out: 9, cost: null },
  });
});

test("counts and cost are there while it streams", () => {
  const pricing = { prompt: "0.01", completion: "0.1" };
  const answer = new Answer({ id: "m", pricing } as never);
  const usage = { prompt_tokens: 3, completion_tokens: 2 };
  answer.addChat({ ...chunk({ content: "Hi there" }), usage });
  expect(answer.snapshot().figures).toMatchObject({ tokens_in: 3, tokens_out: 2 });
  expect(answer.snapshot().figures?.cost).toBeCloseTo(0.23);
  expect(answer.watch.timeline[0]?.[1]).toBe(2);
});

test("reads plain completions", () => {
  const answer = new Answer(undefined);
  const logprobs = { tokens: [" a"], token_logprobs: [-1], top_logprobs: [{ " a": -1, " b": -2 }] };
  answer.addCompletion({ choices: [{ text: " a", logprobs }] });
  answer.addCompletion({ choices: [{ text: " b", finish_reason: "length" }] });
  const { content, finish, logprobs: tokens } = answer.snapshot();
  expect([content, finish]).toEqual([" a b", "length"]);
  expect(tokens?.[0]?.top.map(({ token }) => token)).toEqual([" a", " b"]);
});

test("the cost is the server's price times the tokens", () => {
  const pricing = { prompt: "0.00000005", completion: "0.0000002" };
  const answer = new Answer({ id: "m", pricing } as never);
  answer.addChat({ choices: [], usage: { prompt_tokens: 1000, completion_tokens: 500 } });
  expect(answer.snapshot().figures?.cost).toBeCloseTo(0.00015);
});

test("what is not a chunk is an error, not a crash later", () => {
  expect(() => new Answer(undefined).addChat({ choices: "x" })).toThrow();
});
