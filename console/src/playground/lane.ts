import { useSyncExternalStore } from "react";
import { asProblem, type Problem } from "@/api/errors";
import type { Model } from "@/api/models";
import {
  type ChatBody,
  type CompletionBody,
  chatBody,
  completionBody,
  SettingsError,
} from "./request";
import { run, type Timeline } from "./run";
import { defaultSettings, type Settings } from "./settings";
import { newTurn, type Turn } from "./turns";

/**
 * One model with its settings and its conversation, and the run that is under way. Components
 * subscribe; every change makes a new state. Knows nothing of how it is shown.
 */
export interface LaneState {
  readonly settings: Settings;
  readonly turns: readonly Turn[];
  /** The id of the turn that is being written, while a run is under way. */
  readonly running: string | null;
  readonly problem: Problem | SettingsError | null;
  /** How the last answer came. */
  readonly timeline: Timeline;
}

/** What is kept and shared of a lane. */
export type LaneRecord = Pick<LaneState, "settings" | "turns">;

let nextKey = 0;

export class Lane {
  /** Names the lane for React. */
  readonly key = nextKey++;
  private state: LaneState;
  private readonly listeners = new Set<() => void>();
  private stopper: AbortController | null = null;

  constructor(record: LaneRecord = { settings: defaultSettings(), turns: [] }) {
    this.state = { ...record, running: null, problem: null, timeline: [] };
  }

  readonly get = (): LaneState => this.state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  set(settings: Partial<Settings>): void {
    // What the server refused stays, with its button: that is pressed once the setting is right.
    const problem = this.state.problem instanceof SettingsError ? null : this.state.problem;
    this.change({ settings: { ...this.state.settings, ...settings }, problem });
  }

  readonly choose = (model: string): void => this.set({ model });

  /** Adds what a person said and has it answered. */
  say(content: string, images: string[], model: Model | undefined): Promise<void> {
    return this.answer([...this.state.turns, newTurn("user", content, { images })], model);
  }

  /** Gives the results of the calls that the last turn made, and goes on. */
  giveResults(
    results: { callId: string; content: string }[],
    model: Model | undefined,
  ): Promise<void> {
    const turns = results.map(({ callId, content }) => newTurn("tool", content, { callId }));
    return this.answer([...this.state.turns, ...turns], model);
  }

  /** Answers the last turn that is not the model's once more. */
  regenerate(model: Model | undefined): Promise<void> {
    const turns = [...this.state.turns];
    while (turns.at(-1)?.role === "assistant") turns.pop();
    return this.answer(turns, model);
  }

  /** Changes what a turn says. What a person said is answered anew, and what followed is gone. */
  async edit(id: string, content: string, model: Model | undefined): Promise<void> {
    const at = this.state.turns.findIndex((turn) => turn.id === id);
    const old = this.state.turns[at];
    if (!old) return;
    const edited = { ...old, content, logprobs: [] };
    if (old.role === "user") await this.answer([...this.state.turns.slice(0, at), edited], model);
    else this.change({ turns: this.state.turns.with(at, edited) });
  }

  /** Takes a turn and all that follow it away. */
  cut(id: string): void {
    const at = this.state.turns.findIndex((turn) => turn.id === id);
    if (at >= 0) this.change({ turns: this.state.turns.slice(0, at), problem: null });
  }

  clear(): void {
    this.stop();
    this.change({ turns: [], problem: null, timeline: [] });
  }

  replace(record: LaneRecord): void {
    this.stop();
    this.change({ ...record, running: null, problem: null, timeline: [] });
  }

  stop(): void {
    this.stopper?.abort();
  }

  /** The text that a plain completion goes on with. */
  setPrompt(content: string): void {
    this.stop();
    this.change({ turns: [newTurn("user", content)], problem: null });
  }

  /** Goes on with `prompt`, without chat's roles. */
  complete(prompt: string, model: Model | undefined): Promise<void> {
    return this.answer([newTurn("user", prompt)], model, () =>
      completionBody(this.state.settings, prompt),
    );
  }

  private async answer(
    turns: Turn[],
    model: Model | undefined,
    makeBody: () => ChatBody | CompletionBody = () => chatBody(this.state.settings, turns),
  ): Promise<void> {
    if (!turns.length) return;
    this.stop();
    const stopper = new AbortController();
    this.stopper = stopper;
    const answer = newTurn("assistant", "");
    this.change({ turns: [...turns, answer], running: answer.id, problem: null, timeline: [] });
    let problem: Problem | SettingsError | null = null;
    try {
      await this.modelChosen(stopper.signal);
      const body = makeBody();
      this.write(answer.id, { model: body.model });
      await run(body, model, stopper.signal, (soFar, timeline) =>
        this.write(answer.id, soFar, timeline),
      );
    } catch (thrown) {
      if (stopper.signal.aborted) this.write(answer.id, { finish: "stopped" });
      else problem = thrown instanceof SettingsError ? thrown : asProblem(thrown);
    }
    if (this.stopper !== stopper) return; // another run has begun
    this.stopper = null;
    const written = this.state.turns.find((turn) => turn.id === answer.id);
    const isEmpty = problem && written && !written.content && !written.calls.length;
    this.change({
      running: null,
      problem,
      turns: isEmpty ? this.state.turns.filter((turn) => turn !== written) : this.state.turns,
    });
  }

  /** A first message may be sent before the server has said which models it runs. */
  private modelChosen(signal: AbortSignal): Promise<void> {
    if (this.state.settings.model) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const unsubscribe = this.subscribe(() => {
        if (!this.state.settings.model) return;
        unsubscribe();
        resolve();
      });
      signal.addEventListener("abort", () => {
        unsubscribe();
        reject(signal.reason);
      });
    });
  }

  private write(id: string, soFar: Partial<Turn>, timeline = this.state.timeline): void {
    const at = this.state.turns.findIndex((turn) => turn.id === id);
    const turn = this.state.turns[at];
    if (turn) this.change({ turns: this.state.turns.with(at, { ...turn, ...soFar }), timeline });
  }

  private change(part: Partial<LaneState>): void {
    this.state = { ...this.state, ...part };
    for (const listener of this.listeners) listener();
  }
}

/** A part of a lane's state. The caller is drawn anew when `pick` gives something else, so a part that
 * does not change with each token costs nothing while an answer streams. */
export function useLane<T>(lane: Lane, pick: (state: LaneState) => T): T {
  return useSyncExternalStore(lane.subscribe, () => pick(lane.get()));
}
