import { Wrench } from "lucide-react";
import { useState } from "react";
import { CodeBlock } from "@/components/code-block";
import { Button } from "@/components/ui/button";
import { asJson, type ToolCall } from "./turns";

interface ToolCallsProps {
  calls: readonly ToolCall[];
  /** Results may be given. */
  isOpen: boolean;
  onResults: (results: { callId: string; content: string }[]) => void;
}

/** The calls a model wants made; a person plays the tools and says what they give back. */
export function ToolCalls({ calls, isOpen, onResults }: ToolCallsProps) {
  const [results, setResults] = useState<Record<string, string>>({});
  const send = () => onResults(calls.map(({ id }) => ({ callId: id, content: results[id] ?? "" })));
  return (
    <div className="space-y-3">
      {calls.map((call) => (
        <fieldset
          key={call.id}
          className="rounded-lg border border-line p-3"
          aria-label={`Call of ${call.name}`}
        >
          <p className="flex items-center gap-2 text-sm font-medium">
            <Wrench className="size-4 text-accent" aria-hidden />
            <code>{call.name}</code>
          </p>
          <CodeBlock code={asJson(call.arguments) ?? call.arguments} language="json" />
          {isOpen && (
            <label className="block text-xs text-soft">
              What it gives back
              <textarea
                className="field mt-1 field-sizing-content font-mono text-[13px]"
                placeholder='{"temperature": 21}'
                value={results[call.id] ?? ""}
                onChange={(event) => setResults({ ...results, [call.id]: event.target.value })}
              />
            </label>
          )}
        </fieldset>
      ))}
      {isOpen && (
        <Button size="small" look="main" onClick={send}>
          Send {calls.length > 1 ? "results" : "result"}
        </Button>
      )}
    </div>
  );
}
