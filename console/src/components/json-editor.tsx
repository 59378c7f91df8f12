import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { json } from "@codemirror/lang-json";
import {
  bracketMatching,
  HighlightStyle,
  indentOnInput,
  syntaxHighlighting,
} from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";
import { cn } from "./cn";

interface JsonEditorProps {
  value: string;
  onChange: (value: string) => void;
  label: string;
  isInvalid: boolean;
}

const theme = EditorView.theme({
  "&": { backgroundColor: "var(--raised)", color: "var(--strong)", fontSize: "13px" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-content": { caretColor: "var(--strong)", fontFamily: "var(--font-mono)" },
  ".cm-cursor": { borderLeftColor: "var(--strong)" },
  ".cm-scroller": { overflow: "visible" }, // it is as high as its text
  ".cm-selectionBackground, &.cm-focused .cm-selectionBackground": {
    backgroundColor: "var(--accent-soft)",
  },
  ".cm-matchingBracket": { backgroundColor: "var(--hover)", outline: "1px solid var(--edge)" },
});

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--accent)" },
  { tag: tags.string, color: "var(--good)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--bad)" },
]);

/** An editor for JSON. A module of its own: it is large, and fetched when it is first needed. */
export default function JsonEditor({ value, onChange, label, isInvalid }: JsonEditorProps) {
  const place = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const change = useRef(onChange);
  change.current = onChange;
  const initial = useRef(value);
  useEffect(() => {
    if (!place.current) return;
    const state = EditorState.create({
      doc: initial.current,
      extensions: [
        json(),
        history(),
        indentOnInput(),
        bracketMatching(),
        syntaxHighlighting(colours),
        keymap.of([...defaultKeymap, ...historyKeymap]),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": label }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) change.current(update.state.doc.toString());
        }),
        theme,
      ],
    });
    // In a shadow root its styles are a constructed sheet; elsewhere they would be an inline
    // <style>, which the page's policy forbids.
    const root = place.current.shadowRoot ?? place.current.attachShadow({ mode: "open" });
    view.current = new EditorView({ state, parent: root, root });
    return () => view.current?.destroy();
  }, [label]);
  useEffect(() => {
    const document = view.current?.state.doc;
    if (!document || document.toString() === value) return;
    view.current?.dispatch({ changes: { from: 0, to: document.length, insert: value } });
  }, [value]);
  return (
    <div
      ref={place}
      className={cn("overflow-hidden rounded-lg border", isInvalid ? "border-bad" : "border-edge")}
    />
  );
}
