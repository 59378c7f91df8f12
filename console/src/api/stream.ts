import { createParser } from "eventsource-parser";
import { postJson } from "./client";
import { Problem, problemIn } from "./errors";

/** The events of a stream of the API, parsed, until `[DONE]`. An error among them is thrown. */
export async function* streamJson(
  path: string,
  body: unknown,
  signal: AbortSignal,
): AsyncGenerator<unknown> {
  const response = await postJson(path, body, signal);
  if (!response.body) throw new Problem("The server's answer has no body.");
  const requestId = response.headers.get("x-request-id");
  const ready: string[] = [];
  const parser = createParser({ onEvent: (event) => ready.push(event.data) });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parser.feed(value);
      for (const data of ready.splice(0)) {
        if (data === "[DONE]") return;
        yield parse(data, requestId);
      }
    }
  } catch (thrown) {
    if (thrown instanceof TypeError) throw cutOff(requestId);
    throw thrown;
  } finally {
    reader.cancel().catch(() => {});
  }
  throw cutOff(requestId);
}

function parse(data: string, requestId: string | null): unknown {
  let event: unknown;
  try {
    event = JSON.parse(data);
  } catch {
    throw new Problem("The stream holds something that is not JSON.");
  }
  const error = (event as { error?: unknown } | null)?.error;
  if (error) throw problemIn(error, 500, requestId);
  return event;
}

function cutOff(requestId: string | null): Problem {
  return new Problem("The answer was cut off: the connection was lost.", null, null, 0, requestId);
}
