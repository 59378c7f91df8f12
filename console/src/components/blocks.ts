/**
 * Cuts markdown into blocks that can be parsed apart, so that a stream parses each block once and no
 * block takes long. A cut is before a line that follows a blank one, unless the line is indented or
 * is another item of the list that the block is; around a fence; and in a list or table that is
 * long already, which goes on as another (a table with its head once more).
 */
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;
const ITEM = /^(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/;
const TABLE_RULE = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const LONG_CHARS = 1000;

export function blocksOf(markdown: string): string[] {
  const cutter = new Cutter();
  for (const line of markdown.split("\n")) cutter.add(line);
  return cutter.end();
}

class Cutter {
  private readonly blocks: string[] = [];
  private block: string[] = [];
  private size = 0;
  private fence = "";
  private isAfterBlank = false;

  add(line: string): void {
    const [, indent, mark = "", rest = ""] = FENCE.exec(line) ?? [];
    if (this.fence) {
      this.push(line);
      if (!mark.startsWith(this.fence) || rest.trim()) return;
      this.fence = "";
      if (FENCE.exec(this.block[0] ?? "")) this.cut();
      return;
    }
    const opens = mark !== "" && !isInline(mark, rest);
    if ((opens && indent === "") || this.endsBefore(line)) this.cut();
    else if (this.size > LONG_CHARS) this.cutLong(line);
    if (opens) this.fence = mark;
    this.push(line);
    this.isAfterBlank = !this.fence && !line.trim();
  }

  end(): string[] {
    this.cut();
    return this.blocks;
  }

  private push(line: string): void {
    this.block.push(line);
    this.size += line.length + 1;
  }

  private cut(): void {
    if (this.block.length) this.blocks.push(this.block.join("\n"));
    this.block = [];
    this.size = 0;
    this.isAfterBlank = false;
  }

  private endsBefore(line: string): boolean {
    if (!this.isAfterBlank || !line.trim() || /^\s/.test(line)) return false;
    return !(this.isList() && ITEM.test(line));
  }

  private cutLong(line: string): void {
    const [head = "", rule = ""] = this.block;
    if (this.isList() && ITEM.test(line)) {
      this.cut();
    } else if (head.includes("|") && TABLE_RULE.test(rule) && line.includes("|")) {
      this.cut();
      this.push(head);
      this.push(rule);
    }
  }

  private isList(): boolean {
    return ITEM.test(this.block[0] ?? "");
  }
}

/** A fence's language and text, where a block is one and nothing else; it may still be open. */
export function fenceOf(block: string): { language: string; code: string } | null {
  const [first = "", ...lines] = block.split("\n");
  const [, , mark, rest = ""] = FENCE.exec(first) ?? [];
  if (!mark || isInline(mark, rest)) return null;
  const [, , close = "", after = ""] = FENCE.exec(lines.at(-1) ?? "") ?? [];
  if (close.startsWith(mark) && !after.trim()) lines.pop();
  return { language: rest.trim().split(/\s/)[0] ?? "", code: lines.join("\n") };
}

/** Backticks that are closed on their own line open no fence. */
function isInline(mark: string, rest: string): boolean {
  return mark.startsWith("`") && rest.includes("`");
}
