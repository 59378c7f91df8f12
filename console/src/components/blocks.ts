/**
 * Cuts markdown into blocks that can be parsed apart, so that a stream parses each block once. A cut is
 * before a line that follows a blank one, outside of a fence, unless the line is indented or is
 * another item of the list that the block is.
 */
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const ITEM = /^(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/;

export function blocksOf(markdown: string): string[] {
  const blocks: string[] = [];
  let block: string[] = [];
  let fence = "";
  let isAfterBlank = false;
  for (const line of markdown.split("\n")) {
    const [, mark = "", rest = ""] = FENCE.exec(line) ?? [];
    if (isAfterBlank && block.length && line.trim() && !goesOn(block, line)) {
      blocks.push(block.join("\n"));
      block = [];
    }
    block.push(line);
    if (fence) {
      if (mark.startsWith(fence) && !rest.trim()) fence = "";
    } else if (mark && !isInline(mark, rest)) {
      fence = mark;
    }
    isAfterBlank = !fence && !line.trim();
  }
  if (block.length) blocks.push(block.join("\n"));
  return blocks;
}

/** An open fence's language and text, where a block is one and nothing else. */
export function openFence(block: string): { language: string; code: string } | null {
  const end = block.indexOf("\n");
  const first = end < 0 ? block : block.slice(0, end);
  const [, mark, rest = ""] = FENCE.exec(first) ?? [];
  if (!mark || isInline(mark, rest)) return null;
  const code = end < 0 ? "" : block.slice(end + 1);
  const isClosed = code.split("\n").some((line) => {
    const [, close = "", after = ""] = FENCE.exec(line) ?? [];
    return close.startsWith(mark) && !after.trim();
  });
  return isClosed ? null : { language: rest.trim().split(/\s/)[0] ?? "", code };
}

function goesOn(block: readonly string[], line: string): boolean {
  return /^\s/.test(line) || (ITEM.test(block[0] ?? "") && ITEM.test(line));
}

/** Backticks that are closed on their own line open no fence. */
function isInline(mark: string, rest: string): boolean {
  return mark.startsWith("`") && rest.includes("`");
}
