import { useLocation, useNavigate } from "@tanstack/react-router";
import { Code, Link2, Play, SlidersHorizontal, Square } from "lucide-react";
import { lazy, Suspense, useCallback, useEffect, useState } from "react";
import { useModels } from "@/api/models";
import { Button, IconButton } from "@/components/ui/button";
import { Modal } from "@/components/ui/dialog";
import { useIsWide } from "@/frame/width";
import { FiguresLine } from "@/playground/figures";
import { useLane } from "@/playground/lane";
import { LogprobText } from "@/playground/logprob-text";
import { ModelPicker } from "@/playground/model-picker";
import { ProblemNote } from "@/playground/problem-note";
import { completionBody } from "@/playground/request";
import { Notice, useRoom } from "@/playground/room";
import { SettingsPanel } from "@/playground/settings-panel";

const CodeDialog = lazy(() => import("@/code/code-dialog"));

/** A text and how a model goes on with it, without chat's roles. */
export function Completion() {
  const room = useRoom("completion", 1);
  const lane = room.lanes[0];
  if (!lane) throw new Error("a room has at least one lane");
  const { settings, turns, running, problem } = useLane(lane);
  const { data: models } = useModels();
  const model = models?.find(({ id }) => id === settings.model);
  const [prompt, answer] = [turns[0]?.content ?? "", turns[1]];
  const [isCodeOpen, setCodeOpen] = useState(false);
  const isWide = useIsWide();
  const [isSettingsOpen, setSettingsOpen] = useState(false);
  const navigate = useNavigate();
  const { hash } = useLocation();
  useEffect(() => {
    if (hash.startsWith("share=")) {
      void room.open(`#${hash}`).then(() => navigate({ to: "/completion", replace: true }));
    }
  }, [hash, room.open, navigate]);
  const choose = useCallback((id: string) => lane.set({ model: id }), [lane]);
  const run = () => void lane.complete(prompt, model);
  return (
    <div className="flex min-h-0 flex-1">
      <main className="flex min-h-0 min-w-0 flex-1 flex-col">
        <header className="flex shrink-0 items-center gap-2 border-b border-line px-4 py-2.5">
          <h1 className="sr-only">Completion</h1>
          <ModelPicker chosen={settings.model} onChoose={choose} />
          <div className="ml-auto flex items-center gap-1">
            <IconButton
              label="Copy a link to this text"
              onClick={() => void room.share("/completion")}
            >
              <Link2 />
            </IconButton>
            {!isWide && (
              <IconButton label="Settings" onClick={() => setSettingsOpen(true)}>
                <SlidersHorizontal />
              </IconButton>
            )}
            <Button onClick={() => setCodeOpen(true)} aria-label="Get the code">
              <Code aria-hidden /> <span className="max-sm:hidden">Get the code</span>
            </Button>
          </div>
        </header>
        <Notice text={room.notice} />
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
      {isWide ? (
        <aside
          aria-label="Settings"
          className="w-80 shrink-0 overflow-y-auto border-l border-line bg-raised p-4"
        >
          <SettingsPanel lane={lane} isCompletion />
        </aside>
      ) : (
        <Modal
          isOpen={isSettingsOpen}
          onClose={() => setSettingsOpen(false)}
          title="Settings"
          place="side"
        >
          <SettingsPanel lane={lane} isCompletion />
        </Modal>
      )}
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
