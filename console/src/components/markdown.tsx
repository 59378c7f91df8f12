import { memo, useEffect, useRef, useState } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { blocksOf, fenceOf } from "./blocks";
import { CodeBlock } from "./code-block";

/**
 * Markdown of a model. It becomes React elements and text, never HTML: raw HTML is shown as text,
 * links open apart and only with harmless schemes, images are links, for fetching one tells
 * a stranger what was said.
 */
const PLUGINS = [remarkGfm];
const MAX_OPEN_CHARS = 4000;

const COMPONENTS: Components = {
  a: ({ href, children }) => <SafeLink href={href}>{children}</SafeLink>,
  img: ({ src, alt }) => (
    <SafeLink href={typeof src === "string" ? src : undefined}>{alt || src || "image"}</SafeLink>
  ),
  pre: ({ children }) => children,
  code: ({ className, children, node }) => {
    const text = String(children ?? "");
    const language = /language-(\S+)/.exec(className ?? "")?.[1];
    const isBlock =
      language !== undefined || node?.position?.start.line !== node?.position?.end.line;
    if (!isBlock && !text.endsWith("\n")) return <code>{text}</code>;
    return <CodeBlock code={text.replace(/\n$/, "")} language={language ?? ""} />;
  },
  table: ({ children }) => (
    <div className="table-frame" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
};

/** `isOpen`: more text is still to come. */
export function Markdown({ text, isOpen }: { text: string; isOpen: boolean }) {
  const blocks = blocksOf(text);
  const last = blocks.length - 1;
  return (
    <div className="markdown">
      {blocks.map((block, index) =>
        isOpen && index === last ? (
          // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only ever appended
          <OpenBlock key={index} text={block} />
        ) : (
          // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only ever appended
          <Block key={index} text={block} />
        ),
      )}
    </div>
  );
}

const Block = memo(function Block({ text }: { text: string }) {
  const fence = fenceOf(text);
  if (fence) return <CodeBlock {...fence} />;
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS} urlTransform={safeUrl}>
      {text}
    </ReactMarkdown>
  );
});

/** The block that still grows: code as it is, other text parsed no more often than it is cheap. */
function OpenBlock({ text }: { text: string }) {
  const parsed = useThinned(text);
  const fence = fenceOf(text);
  if (fence) return <CodeBlock {...fence} />;
  if (text.length > MAX_OPEN_CHARS) return <p className="whitespace-pre-wrap">{text}</p>;
  return <Block text={parsed} />;
}

/** `text`, renewed so seldom that parsing it takes at most an eighth of the time. */
function useThinned(text: string): string {
  const [shown, setShown] = useState(text);
  const latest = useRef(text);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  latest.current = text;
  useEffect(() => {
    if (timer.current !== null || latest.current === shown) return;
    const wait_ms = Math.max(0, latest.current.length / 25 - 20); // at 5 us a character
    timer.current = setTimeout(() => {
      timer.current = null;
      setShown(latest.current);
    }, wait_ms);
  });
  useEffect(
    () => () => {
      if (timer.current !== null) clearTimeout(timer.current);
    },
    [],
  );
  return shown;
}

function SafeLink({ href, children }: { href: string | undefined; children: React.ReactNode }) {
  if (!href) return <span>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

/** The address if it is absolute and of a harmless scheme, else nothing. */
export function safeUrl(url: string): string {
  try {
    const { protocol, href } = new URL(url);
    return ["http:", "https:", "mailto:"].includes(protocol) ? href : "";
  } catch {
    return "";
  }
}
