import { type ReactNode, useEffect, useMemo, useRef } from "react";
import type { Model } from "@/api/models";
import { type Lane, useLane } from "./lane";
import { ProblemNote } from "./problem-note";
import { type TurnActions, TurnView } from "./turn-view";

interface ConversationProps {
  lane: Lane;
  model: Model | undefined;
  /** What is shown where nothing was said yet. */
  empty: ReactNode;
  name?: string;
}

/** A lane's turns. Follows what is written as long as its end is in view. */
export function Conversation({ lane, model, empty, name = "Conversation" }: ConversationProps) {
  const { turns, running, problem } = useLane(lane, (state) => state);
  const scroller = useFollowing(turns);
  const actions = useMemo<TurnActions>(
    () => ({
      onEdit: (id, content) => void lane.edit(id, content, model),
      onCut: (id) => lane.cut(id),
      onRegenerate: () => void lane.regenerate(model),
      onResults: (results) => void lane.giveResults(results, model),
    }),
    [lane, model],
  );
  return (
    <section
      ref={scroller}
      className="min-h-0 flex-1 overflow-y-auto focus-ring"
      aria-label={name}
      tabIndex={0}
    >
      <div className="mx-auto flex min-h-full max-w-3xl flex-col gap-2 px-4 py-6">
        {turns.map((turn, index) => (
          <TurnView
            key={turn.id}
            turn={turn}
            isRunning={turn.id === running}
            isLast={index === turns.length - 1}
            isBusy={running !== null}
            actions={actions}
          />
        ))}
        {turns.length === 0 && !problem && empty}
        {problem && <ProblemNote problem={problem} onRetry={actions.onRegenerate} />}
      </div>
      <p className="sr-only" role="status">
        {running
          ? "The model is writing."
          : turns.at(-1)?.role === "assistant"
            ? "The answer is complete."
            : ""}
      </p>
    </section>
  );
}

/** Keeps the end in view when `content` changes, unless the person has scrolled away from it. */
function useFollowing(content: unknown) {
  const scroller = useRef<HTMLElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const onScroll = () => {
      follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < 80;
    };
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => element.removeEventListener("scroll", onScroll);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: it runs because the content changed
  useEffect(() => {
    const element = scroller.current;
    if (element && follows.current) element.scrollTop = element.scrollHeight;
  }, [content]);
  return scroller;
}
