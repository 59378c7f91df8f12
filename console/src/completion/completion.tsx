import { Play, Square } from "lucide-react";
import { lazy, Suspense, useState } from "react";
import { useModels } from "@/api/models";
import { Button } from "@/components/ui/button";
import { FiguresLine } from "@/playground/figures";
import { useLane } from "@/playground/lane";
import { LogprobText } from "@/playground/logprob-text";
import { ProblemNote } from "@/playground/problem-note";
import { completionBody } from "@/playground/request";
import { useRoom } from "@/playground/room";
import { RoomHeader } from "@/playground/room-header";
import { SettingsPlace } from "@/playground/settings-place";

const CodeDialog = lazy(() => import("@/code/code-dialog"));

/** A text and how a model goes on with it, without chat's roles. */
export function Completion() {
  const room = useRoom("completion", "/completion");
  const lane = room.lanes[0];
  if (!lane) throw new Error("a room has at least one lane");
  const { settings, turns, running, problem } = useLane(lane, (state) => state);
  const { data: models } = useModels();
  const model = models?.find(({ id }) => id === settings.model);
  const [prompt, answer] = [turns[0]?.content ?? "", turns[1]];
  const [isCodeOpen, setCodeOpen] = useState(false);
  const [isSettingsOpen, setSettingsOpen] = useState(false);
  const run = () => void lane.complete(prompt, model);
  return (
    <div className="flex min-h-0 flex-1">
      <main className="flex min-h-0 min-w-0 flex-1 flex-col">
        <RoomHeader
          name="Completion"
          room={room}
          lane={lane}
          onCode={() => setCodeOpen(true)}
          onSettings={() => setSettingsOpen(true)}
        />
        <div className="mx-auto flex min-h-0 w-full max-w-3xl flex-1 flex-col gap-4 overflow-y-auto p-4">
          <textarea
            aria-label="Text to go on with"
            className="field field-sizing-content min-h-48 shrink-0 text-[15px]! leading-7"
            placeholder="Once upon a time"
            value={prompt}
            onChange={(event) => lane.setPrompt(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
            }}
          />
          <div className="flex items-center gap-2">
            {running ? (
              <Button look="main" onClick={() => lane.stop()}>
                <Square className="fill-current" aria-hidden /> Stop
              </Button>
            ) : (
              <Button look="main" onClick={run} disabled={!prompt}>
                <Play aria-hidden /> Complete
              </Button>
            )}
            {answer?.content && !running && (
              <Button onClick={() => lane.setPrompt(prompt + answer.content)}>
                Take it into the text
              </Button>
            )}
            <span className="text-xs text-soft max-sm:hidden">Ctrl Enter runs</span>
          </div>
          {problem && <ProblemNote problem={problem} onRetry={run} />}
          {answer && (
            <article aria-label="Model" className="space-y-3">
              {answer.logprobs.length > 0 ? (
                <LogprobText tokens={answer.logprobs} />
              ) : (
                <p className="leading-7 break-words whitespace-pre-wrap">
                  {answer.content}
                  {running && <span className="caret" />}
                </p>
              )}
              {answer.figures && <FiguresLine figures={answer.figures} />}
            </article>
          )}
        </div>
      </main>
      <SettingsPlace
        lane={lane}
        isCompletion
        isOpen={isSettingsOpen}
        onClose={() => setSettingsOpen(false)}
      />
      {isCodeOpen && (
        <Suspense>
          <CodeDialog
            request={() => ({ kind: "completion", body: completionBody(settings, prompt) })}
            onClose={() => setCodeOpen(false)}
          />
        </Suspense>
      )}
    </div>
  );
}
