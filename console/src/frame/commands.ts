import { useEffect, useSyncExternalStore } from "react";

/** What the command palette offers: the frame's own commands, and those of the room that is open. */
export interface Command {
  readonly name: string;
  readonly keys?: string;
  readonly run: () => void;
}

const rooms = new Map<symbol, readonly Command[]>();
const listeners = new Set<() => void>();
let all: readonly Command[] = [];

/** Offers `commands` while the calling component is there. They may change with each render. */
export function useCommands(commands: readonly Command[]): void {
  useEffect(() => {
    const owner = Symbol("commands");
    rooms.set(owner, commands);
    changed();
    return () => {
      rooms.delete(owner);
      changed();
    };
  }, [commands]);
}

export function useAllCommands(): readonly Command[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => all,
  );
}

function changed(): void {
  all = [...rooms.values()].flat();
  for (const listener of listeners) listener();
}
