import { useSyncExternalStore } from "react";

const wide = matchMedia("(min-width: 64rem)");

/** Whether there is room for settings beside a conversation. */
export function useIsWide(): boolean {
  return useSyncExternalStore(
    (listener) => {
      wide.addEventListener("change", listener);
      return () => wide.removeEventListener("change", listener);
    },
    () => wide.matches,
  );
}
