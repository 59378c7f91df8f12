import { beforeAll, expect, test, vi } from "vitest";
import { Lane } from "./lane";
import { keepLanes, keptLanes, sharedLanes, shareLink } from "./session";
import { defaultSettings } from "./settings";
import { newTurn } from "./turns";

beforeAll(() => {
  const kept = new Map<string, string>();
  vi.stubGlobal("location", { origin: "http://host" });
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
  });
});

function lane(): Lane {
  const turns = [newTurn("user", "Grüße 🔥"), newTurn("assistant", "Hallo")];
  return new Lane({ settings: { ...defaultSettings(), model: "m" }, turns });
}

test("a link carries lanes behind its #", async () => {
  const one = lane();
  const link = await shareLink([one, lane()], "/compare");
  const { origin, pathname, hash } = new URL(link);
  expect(origin + pathname).toBe("http://host/compare");
  const lanes = await sharedLanes(hash);
  expect(lanes).toHaveLength(2);
  expect(lanes?.[0]?.get().turns).toEqual(one.get().turns);
  expect(lanes?.[0]?.get().settings).toEqual(one.get().settings);
});

test("other hashes are no link; damaged ones say so", async () => {
  expect(await sharedLanes("#room")).toBeNull();
  await expect(sharedLanes("#share=!!!")).rejects.toThrow(/damaged/);
  await expect(sharedLanes("#share=AAAA")).rejects.toThrow(/damaged/);
});

test("a link that unpacks to too much is refused", async () => {
  const bomb = new Blob([new Uint8Array(30_000_000)])
    .stream()
    .pipeThrough(new CompressionStream("deflate-raw"));
  const packed = Buffer.from(await new Response(bomb).arrayBuffer()).toString("base64url");
  await expect(sharedLanes(`#share=${packed}`)).rejects.toThrow(/damaged/);
});

test("what is too much for a link is said", async () => {
  const noise = () =>
    Buffer.from(crypto.getRandomValues(new Uint8Array(60_000))).toString("base64");
  const turns = Array.from({ length: 16 }, () => newTurn("user", noise()));
  const large = new Lane({ settings: defaultSettings(), turns });
  await expect(shareLink([large], "/")).rejects.toThrow(/too much for a link/);
});

test("what is kept comes back, what others wrote does not", () => {
  const one = lane();
  keepLanes("chat", [one]);
  expect(keptLanes("chat")?.[0]?.get().turns).toEqual(one.get().turns);
  localStorage.setItem("firefront.chat", '{"version": 1, "lanes": [{"settings": {"model": 5}}]}');
  expect(keptLanes("chat")).toBeNull();
  localStorage.setItem("firefront.chat", "{");
  expect(keptLanes("chat")).toBeNull();
});
