import { Check, Copy } from "lucide-react";
import { useState } from "react";
import { IconButton } from "./ui/button";

/** Copies `text`; says so for a moment. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    await copyText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <IconButton label={isDone ? "Copied" : `Copy ${what}`} onClick={copy}>
      {isDone ? <Check className="text-good" /> : <Copy />}
    </IconButton>
  );
}

/** Browsers give a page its clipboard only over https and on localhost; elsewhere the old way. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
