import { describe, expect, test } from "vitest";
import { blocksOf, openFence } from "./blocks";

describe("blocksOf", () => {
  test("cuts paragraphs, and joined they are the text", () => {
    const text = "# Title\n\nOne\ntwo\n\nThree\n";
    const blocks = blocksOf(text);
    expect(blocks).toEqual(["# Title\n", "One\ntwo\n", "Three\n"]);
    expect(blocks.join("\n")).toBe(text);
  });

  test("keeps a fence whole, blank lines and shorter fences in it included", () => {
    const fence = "````md\na\n\n```\nb\n\nc\n```\n\n````";
    expect(blocksOf(`${fence}\n\nafter`)).toEqual([`${fence}\n`, "after"]);
  });

  test("an inline fence on one line opens none", () => {
    expect(blocksOf("``` a ```\n\nb")).toEqual(["``` a ```\n", "b"]);
  });

  test("keeps a loose list and what is indented under it together", () => {
    const list = "1. a\n\n   more\n\n2. b\n";
    expect(blocksOf(`${list}\nafter`)).toEqual([list, "after"]);
  });

  test("a list after a paragraph is a block of its own", () => {
    expect(blocksOf("One\n\n- a\n\n- b\n\n2 is not an item")).toEqual([
      "One\n",
      "- a\n\n- b\n",
      "2 is not an item",
    ]);
  });

  test("a text that grows by lines changes its last block only", () => {
    const text = "One\n\n- a\n- b\n\nTwo\n\n```js\nx\n\ny\n```\n\nThree **four**\n\nFive";
    const lines = text.split("\n");
    let before: string[] = [];
    for (let end = 1; end <= lines.length; end++) {
      const blocks = blocksOf(lines.slice(0, end).join("\n"));
      const done = before.slice(0, -1);
      expect(blocks.slice(0, done.length)).toEqual(done);
      before = blocks;
    }
    expect(before.join("\n")).toBe(text);
  });
});

describe("openFence", () => {
  test("finds the language and the code so far", () => {
    expect(openFence("```python\nprint(1)\n")).toEqual({ language: "python", code: "print(1)\n" });
    expect(openFence("~~~")).toEqual({ language: "", code: "" });
  });

  test("is null once it is closed, or for other text", () => {
    expect(openFence("```\nx\n```")).toBeNull();
    expect(openFence("a\n```\nx")).toBeNull();
  });
});
