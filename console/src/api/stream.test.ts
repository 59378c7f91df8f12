import { afterEach, expect, test, vi } from "vitest";
import { Problem } from "./errors";
import { streamJson } from "./stream";

vi.stubGlobal("sessionStorage", { getItem: () => null });
afterEach(() => vi.restoreAllMocks());

function answer(parts: (string | Uint8Array)[], status = 200): void {
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start(controller) {
      for (const part of parts) {
        controller.enqueue(typeof part === "string" ? encoder.encode(part) : part);
      }
      controller.close();
    },
  });
  vi.spyOn(globalThis, "fetch").mockResolvedValue(new Response(body, { status }));
}

async function all(): Promise<unknown[]> {
  const events = [];
  for await (const event of streamJson("/x", {}, new AbortController().signal)) events.push(event);
  return events;
}

test("reads events however they are cut", async () => {
  const text = 'data: {"a": "é🔥"}\n\n: still here\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n';
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 7, 64]) {
    const parts = [];
    for (let at = 0; at < bytes.length; at += size) parts.push(bytes.slice(at, at + size));
    answer(parts);
    expect(await all()).toEqual([{ a: "é🔥" }, { a: 2 }]);
  }
});

test("an error among the events is thrown", async () => {
  answer(['data: {"a": 1}\n\n', 'data: {"error": {"message": "no", "code": "c"}}\n\n']);
  await expect(all()).rejects.toMatchObject({ message: "no", code: "c" });
});

test("a stream without its end was cut off", async () => {
  answer(['data: {"a": 1}\n\n']);
  await expect(all()).rejects.toThrow(/cut off/);
});

test("an answer that is not 2xx is a problem with its field", async () => {
  answer(['{"error": {"message": "top_p: must be", "param": "top_p", "code": null}}'], 400);
  const problem = await all().catch((thrown: unknown) => thrown);
  expect(problem).toBeInstanceOf(Problem);
  expect(problem).toMatchObject({
    param: "top_p",
    status: 400,
    advice: "Change top_p, then press Try again.",
  });
});

test("an answer that is not JSON is still a problem", async () => {
  answer(["<html>"], 502);
  await expect(all()).rejects.toMatchObject({ status: 502, message: "The server answered 502." });
});
