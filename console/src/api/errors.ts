/** What went wrong, in words for a person, with what to do about it. */
export class Problem extends Error {
  constructor(
    message: string,
    /** The field of the request that is at fault. */
    readonly param: string | null = null,
    readonly code: string | null = null,
    /** HTTP's status; 0 where no answer came. */
    readonly status = 0,
    readonly requestId: string | null = null,
  ) {
    super(message);
    this.name = "Problem";
  }

  /** What a person can do, where the status tells. */
  get advice(): string | null {
    if (this.status === 401) return "Enter a key: press the key symbol above.";
    if (this.status === 429) return "Wait a moment, then press Try again.";
    if (this.status === 503)
      return "The model is loading or busy. Wait a moment, then press Try again.";
    if (this.status >= 500)
      return "This is the server's fault. Its log says more under the request id.";
    if (this.status === 0)
      return "Is the server still running? Check the terminal it was started in.";
    if (this.code === "context_length_exceeded") return "Shorten the prompt, or start a new chat.";
    if (this.param) return `Change ${this.param}, then press Try again.`;
    return null;
  }
}

/** The problem in an answer that is not 2xx. */
export async function problemOf(response: Response): Promise<Problem> {
  const requestId = response.headers.get("x-request-id");
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    body = null;
  }
  const error = (body as { error?: unknown } | null)?.error;
  return problemIn(error, response.status, requestId);
}

/** The problem in an `error` object, whatever it holds. */
export function problemIn(
  error: unknown,
  status: number,
  requestId: string | null = null,
): Problem {
  const { message, param, code } = (error ?? {}) as Record<string, unknown>;
  const text = typeof message === "string" && message ? message : `The server answered ${status}.`;
  return new Problem(text, asText(param), asText(code), status, requestId);
}

/** Anything that was thrown, as a problem. */
export function asProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  if (thrown instanceof TypeError) return new Problem("The server could not be reached.");
  return new Problem(thrown instanceof Error ? thrown.message : String(thrown));
}

function asText(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
