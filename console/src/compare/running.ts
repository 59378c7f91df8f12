import { useSyncExternalStore } from "react";
import type { Lane } from "@/playground/lane";

/** Whether any of the lanes is being answered. */
export function useAnyRunning(lanes: readonly Lane[]): boolean {
  return useSyncExternalStore(
    (listener) => subscribeAll(lanes, listener),
    () => lanes.some((lane) => lane.get().running !== null),
  );
}

/** Calls `listener` when any of the lanes changes, until the result is called. */
export function subscribeAll(lanes: readonly Lane[], listener: () => void): () => void {
  const unsubscribe = lanes.map((lane) => lane.subscribe(listener));
  return () => {
    for (const stop of unsubscribe) stop();
  };
}
