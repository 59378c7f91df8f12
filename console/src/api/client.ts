import { useSyncExternalStore } from "react";
import { Problem, problemOf } from "./errors";

/**
 * Requests to the server that this page came from. Owns the key: in this tab alone, until it is
 * closed; sent as a header, never a cookie.
 */
const KEY = "firefront.key";
const listeners = new Set<() => void>();
let wanted = false;

export function apiKey(): string | null {
  return sessionStorage.getItem(KEY);
}

export function setApiKey(key: string): void {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  setWanted(false);
}

/** Whether the server has refused a request for want of a valid key. */
export function useKeyWanted(): boolean {
  return useSyncExternalStore(subscribe, () => wanted);
}

/** Sends a request; an answer that is not 2xx is thrown as a Problem. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = apiKey();
  if (key) headers.set("authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, credentials: "omit", cache: "no-store" });
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === "AbortError") throw thrown;
    throw new Problem("The server could not be reached.");
  }
  if (response.ok) return response;
  if (response.status === 401) setWanted(true);
  throw await problemOf(response);
}

export function postJson(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  return send(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
}

function setWanted(value: boolean): void {
  wanted = value;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
