import { CircleAlert } from "lucide-react";
import { Problem } from "@/api/errors";
import { Button } from "@/components/ui/button";
import type { SettingsError } from "./request";

interface ProblemNoteProps {
  problem: Problem | SettingsError;
  onRetry: () => void;
}

/** What went wrong with a run, what to do about it, and a way to try again. */
export function ProblemNote({ problem, onRetry }: ProblemNoteProps) {
  const isServers = problem instanceof Problem;
  return (
    <div role="alert" className="flex items-start gap-3 rounded-lg bg-bad-soft p-3 text-sm">
      <CircleAlert className="mt-0.5 size-4 shrink-0 text-bad" aria-hidden />
      <div className="min-w-0 flex-1">
        <p className="break-words">{problem.message}</p>
        {isServers && problem.advice && <p className="mt-1 text-soft">{problem.advice}</p>}
        {isServers && problem.requestId && (
          <p className="mt-1 text-xs text-soft">
            Request <code>{problem.requestId}</code>
          </p>
        )}
      </div>
      <Button size="small" onClick={onRetry}>
        Try again
      </Button>
    </div>
  );
}
