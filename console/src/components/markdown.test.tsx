import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { Markdown, safeUrl } from "./markdown";

function html(text: string): string {
  return renderToStaticMarkup(<Markdown text={text} isOpen={false} />);
}

test("raw HTML is text", () => {
  expect(html("<img src=x onerror=alert(1)>")).not.toContain("<img");
  expect(html("a <script>alert(1)</script> b")).not.toContain("<script");
});

test("images are links and fetch nothing", () => {
  const out = html("![leak](https://example.com/?q=secret)");
  expect(out).not.toContain("<img");
  expect(out).toContain('rel="noopener noreferrer nofollow"');
});

test("links have harmless schemes only", () => {
  expect(html("[x](javascript:alert(1))")).not.toContain("href");
  expect(html("[x](/v1/files)")).not.toContain("href");
  expect(html("[x](https://example.com/a)")).toContain('href="https://example.com/a"');
});

test.each([
  "javascript:alert(1)",
  "data:text/html,x",
  "vbscript:x",
  "/relative",
  "//host/x",
  "blob:x",
])("%s is not followed", (url) => expect(safeUrl(url)).toBe(""));
