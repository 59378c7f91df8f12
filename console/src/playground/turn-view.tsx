import { Pencil, RotateCcw, Trash2 } from "lucide-react";
import { memo, useState } from "react";
import { CodeBlock } from "@/components/code-block";
import { CopyButton } from "@/components/copy-button";
import { Markdown } from "@/components/markdown";
import { Button, IconButton } from "@/components/ui/button";
import { ToolCalls } from "./calls";
import { FiguresLine } from "./figures";
import { LogprobText } from "./logprob-text";
import { asJson, type Turn } from "./turns";

export interface TurnActions {
  onEdit: (id: string, content: string) => void;
  onCut: (id: string) => void;
  onRegenerate: () => void;
  onResults: (results: { callId: string; content: string }[]) => void;
}

interface TurnViewProps {
  turn: Turn;
  isRunning: boolean;
  isLast: boolean;
  /** Nothing may be changed: a run is under way. */
  isBusy: boolean;
  actions: TurnActions;
}

/** One turn of a conversation, with what can be done to it. */
export const TurnView = memo(function TurnView(props: TurnViewProps) {
  const { turn, isBusy, actions } = props;
  const [isEditing, setEditing] = useState(false);
  if (isEditing && !isBusy) {
    return (
      <Editor
        turn={turn}
        onCancel={() => setEditing(false)}
        onSave={(content) => {
          setEditing(false);
          actions.onEdit(turn.id, content);
        }}
      />
    );
  }
  return (
    <article className="group" aria-label={NAMES[turn.role]} data-role={turn.role}>
      {turn.role === "assistant" ? <AssistantTurn {...props} /> : <SaidTurn turn={turn} />}
      {!isBusy && <Actions {...props} onStartEdit={() => setEditing(true)} />}
    </article>
  );
});

const NAMES = { user: "You", assistant: "Model", tool: "Tool result" } as const;

function SaidTurn({ turn }: { turn: Turn }) {
  const isTool = turn.role === "tool";
  return (
    <div className={isTool ? "" : "flex flex-col items-end"}>
      {isTool && <p className="mb-1 text-xs text-soft">Result of {turn.callId}</p>}
      {turn.images.map((url) => (
        <img
          key={url}
          src={url}
          alt="attached"
          className="mb-2 max-h-60 rounded-lg border border-line"
        />
      ))}
      <div
        className={`max-w-full rounded-2xl px-4 py-2.5 break-words whitespace-pre-wrap ${
          isTool ? "border border-line font-mono text-[13px]" : "max-w-[85%] bg-hover"
        }`}
      >
        {turn.content}
      </div>
    </div>
  );
}

function AssistantTurn({ turn, isRunning, isLast, isBusy, actions }: TurnViewProps) {
  const isWaiting = isRunning && !turn.content && !turn.reasoning && !turn.calls.length;
  return (
    <div className="space-y-3">
      {turn.reasoning && (
        <details
          className="rounded-lg border border-line px-3 py-2 text-sm text-soft"
          open={isRunning && !turn.content}
        >
          <summary className="focus-ring cursor-pointer">Thought</summary>
          <div className="mt-2 break-words whitespace-pre-wrap">{turn.reasoning}</div>
        </details>
      )}
      {turn.logprobs.length > 0 ? (
        <LogprobText tokens={turn.logprobs} />
      ) : (
        turn.content && <Said text={turn.content} isRunning={isRunning} />
      )}
      {isWaiting && (
        <p role="status" className="text-sm text-soft">
          Reading the prompt <span className="caret" />
        </p>
      )}
      {turn.calls.length > 0 && (
        <ToolCalls calls={turn.calls} isOpen={isLast && !isBusy} onResults={actions.onResults} />
      )}
      {turn.finish && FINISHES[turn.finish] && (
        <p className="text-xs text-soft">{FINISHES[turn.finish]}</p>
      )}
      {turn.figures && <FiguresLine figures={turn.figures} />}
    </div>
  );
}

/** Markdown; what is JSON once it is whole is shown as such. */
function Said({ text, isRunning }: { text: string; isRunning: boolean }) {
  const json = isRunning ? null : asJson(text);
  if (json) return <CodeBlock code={json} language="json" />;
  return <Markdown text={text} isOpen={isRunning} />;
}

const FINISHES: Record<string, string> = {
  length: "Ended at the longest answer that was allowed.",
  stopped: "Stopped.",
};

function Actions({
  turn,
  isLast,
  actions,
  onStartEdit,
}: TurnViewProps & { onStartEdit: () => void }) {
  const isModel = turn.role === "assistant";
  return (
    <div
      className={`mt-1 flex gap-0.5 opacity-0 transition-opacity group-focus-within:opacity-100 group-hover:opacity-100 pointer-coarse:opacity-100 ${
        isLast ? "opacity-100" : ""
      } ${turn.role === "user" ? "justify-end" : "-ml-2"}`}
    >
      {turn.content && <CopyButton text={turn.content} what="text" />}
      <IconButton label="Edit" onClick={onStartEdit}>
        <Pencil />
      </IconButton>
      {isModel && isLast && (
        <IconButton label="Regenerate" onClick={actions.onRegenerate}>
          <RotateCcw />
        </IconButton>
      )}
      <IconButton label="Remove from here on" onClick={() => actions.onCut(turn.id)}>
        <Trash2 />
      </IconButton>
    </div>
  );
}

interface EditorProps {
  turn: Turn;
  onSave: (content: string) => void;
  onCancel: () => void;
}

function Editor({ turn, onSave, onCancel }: EditorProps) {
  const [content, setContent] = useState(turn.content);
  const isUsers = turn.role === "user";
  return (
    <form
      className="space-y-2"
      onSubmit={(event) => {
        event.preventDefault();
        onSave(content);
      }}
    >
      <textarea
        // biome-ignore lint/a11y/noAutofocus: the person has just asked to edit this
        autoFocus
        aria-label={`Edit: ${NAMES[turn.role]}`}
        className="field field-sizing-content min-h-20 font-mono text-[13px]"
        value={content}
        onChange={(event) => setContent(event.target.value)}
      />
      <div className="flex justify-end gap-2">
        <Button size="small" onClick={onCancel}>
          Cancel
        </Button>
        <Button size="small" look="main" type="submit">
          {isUsers ? "Save and run" : "Save"}
        </Button>
      </div>
    </form>
  );
}
