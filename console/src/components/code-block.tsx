import { CopyButton } from "./copy-button";

/** Code with its language and a button that copies it. */
export function CodeBlock({ code, language }: { code: string; language: string }) {
  return (
    <figure className="my-3 overflow-hidden rounded-lg border border-line bg-sunken">
      <figcaption className="flex h-9 items-center justify-between border-b border-line pr-1 pl-3 text-xs text-soft">
        <span>{language || "text"}</span>
        <CopyButton text={code} what="code" />
      </figcaption>
      <pre className="overflow-x-auto p-3 text-[13px] leading-relaxed" tabIndex={0}>
        <code>{code}</code>
      </pre>
    </figure>
  );
}
