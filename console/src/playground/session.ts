import * as v from "valibot";
import { Lane, type LaneRecord } from "./lane";
import { Settings } from "./settings";
import { Turn } from "./turns";

/**
 * Lanes outside the page: kept in this browser, and shared as a link. Both are read as untrusted. A
 * link carries its state behind `#`, which is never sent to a server.
 */
const Record_ = v.object({
  settings: Settings,
  turns: v.optional(v.pipe(v.array(Turn), v.maxLength(2000)), []),
});
const Session = v.object({
  version: v.literal(1),
  lanes: v.pipe(v.array(Record_), v.minLength(1), v.maxLength(4)),
});
const MAX_KEPT_CHARS = 4_000_000;
const MAX_SHARED_BYTES = 2_000_000;
const MAX_LINK_CHARS = 1_000_000;
const SHARE = "#share=";

/** The lanes of a room as they were when the page was left. */
export function keptLanes(room: string): Lane[] | null {
  try {
    const kept = localStorage.getItem(`firefront.${room}`);
    return kept === null ? null : lanesOf(JSON.parse(kept));
  } catch {
    return null; // written by another version, or by somebody else
  }
}

/** Keeps them; what does not fit is kept without images and log-probabilities, or not at all. */
export function keepLanes(room: string, lanes: readonly Lane[]): void {
  const whole = recordsOf(lanes);
  for (const records of [whole, whole.map(lighter)]) {
    const text = JSON.stringify({ version: 1, lanes: records });
    if (text.length > MAX_KEPT_CHARS) continue;
    try {
      localStorage.setItem(`firefront.${room}`, text);
      return;
    } catch {
      // The browser's quota: try the lighter one.
    }
  }
}

/** A link that opens the lanes as they are, without log-probabilities. Throws an Error where that is
 * more than browsers take. */
export async function shareLink(lanes: readonly Lane[], path: string): Promise<string> {
  const text = JSON.stringify({ version: 1, lanes: recordsOf(lanes).map(withoutLogprobs) });
  const packed = await pipe(new TextEncoder().encode(text), new CompressionStream("deflate-raw"));
  const link = `${location.origin}${path}${SHARE}${toBase64Url(packed)}`;
  if (link.length > MAX_LINK_CHARS) {
    throw new Error("This is too much for a link: remove images, or turns from their start.");
  }
  return link;
}

/** The lanes of a link; null if it is none. Throws an Error that says what is wrong with it. */
export async function sharedLanes(hash: string): Promise<Lane[] | null> {
  if (!hash.startsWith(SHARE)) return null;
  try {
    const packed = fromBase64Url(hash.slice(SHARE.length));
    const bytes = await pipe(packed, new DecompressionStream("deflate-raw"), MAX_SHARED_BYTES);
    return lanesOf(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch {
    throw new Error("This link is damaged or of another version. Ask for a new one.");
  }
}

function lanesOf(session: unknown): Lane[] {
  return v.parse(Session, session).lanes.map((record) => new Lane(record));
}

function recordsOf(lanes: readonly Lane[]): LaneRecord[] {
  return lanes.map((lane) => {
    const { settings, turns } = lane.get();
    return { settings, turns };
  });
}

function withoutLogprobs(record: LaneRecord): LaneRecord {
  return { ...record, turns: record.turns.map((turn) => ({ ...turn, logprobs: [] })) };
}

function lighter(record: LaneRecord): LaneRecord {
  return { ...record, turns: record.turns.map((turn) => ({ ...turn, logprobs: [], images: [] })) };
}

async function pipe(
  bytes: Uint8Array<ArrayBuffer>,
  through: CompressionStream | DecompressionStream,
  most = Number.POSITIVE_INFINITY,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob([bytes]).stream().pipeThrough(through).getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    size += value.byteLength;
    if (size > most) throw new Error("too large");
    parts.push(value);
  }
}

function toBase64Url(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (char) => char.charCodeAt(0));
}
