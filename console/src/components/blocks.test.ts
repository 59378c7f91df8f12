import { describe, expect, test } from "vitest";
import { blocksOf, fenceOf } from "./blocks";

describe("blocksOf", () => {
  test("cuts paragraphs, and joined they are the text", () => {
    const text = "# Title\n\nOne\ntwo\n\nThree\n";
    const blocks = blocksOf(text);
    expect(blocks).toEqual(["# Title\n", "One\ntwo\n", "Three\n"]);
    expect(blocks.join("\n")).toBe(text);
  });

  test("keeps a fence whole, blank lines and shorter fences in it included", () => {
    const fence = "````md\na\n\n```\nb\n\nc\n```\n\n````";
    expect(blocksOf(`before\n${fence}\nafter`)).toEqual(["before", fence, "after"]);
  });

  test("an inline fence on one line opens none", () => {
    expect(blocksOf("``` a ```\n\nb")).toEqual(["``` a ```\n", "b"]);
  });

  test("a fence in a list item stays there", () => {
    const list = "- a\n  ```\n  x\n\n  y\n  ```\n- b";
    expect(blocksOf(list)).toEqual([list]);
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

  test("a long list goes on as another, at an item", () => {
    const item = `- ${"a ".repeat(100)}\n  still\n`;
    const blocks = blocksOf(item.repeat(30));
    expect(blocks.length).toBeGreaterThan(2);
    for (const block of blocks) expect(block.startsWith("- ")).toBe(true);
    expect(blocks.join("\n")).toBe(item.repeat(30));
  });

  test("a long table goes on with its head", () => {
    const head = "| a | b |\n| - | :-: |\n";
    const blocks = blocksOf(head + "| 1 | 2 |\n".repeat(500));
    expect(blocks.length).toBeGreaterThan(2);
    for (const block of blocks) expect(block.startsWith(head)).toBe(true);
    expect(blocks.join("\n").split("| 1 | 2 |").length - 1).toBe(500);
  });

  test("a text that grows by lines changes its last block only", () => {
    const text = "One\n\n- a\n- b\n\nTwo\n```js\nx\n\ny\n```\nThree **four**\n\nFive";
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

describe("fenceOf", () => {
  test("finds the language and the code so far", () => {
    expect(fenceOf("```python\nprint(1)\n")).toEqual({ language: "python", code: "print(1)\n" });
    expect(fenceOf("```python\nprint(1)\n```")).toEqual({ language: "python", code: "print(1)" });
    expect(fenceOf("~~~")).toEqual({ language: "", code: "" });
  });

  test("is null for other text", () => {
    expect(fenceOf("a\n```\nx")).toBeNull();
    expect(fenceOf("``` a ```")).toBeNull();
  });
});
