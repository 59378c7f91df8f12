import { useSyncExternalStore } from "react";

/** Light, dark, or as the system says. Kept in this browser. */
export type Theme = "light" | "dark" | "system";
const KEY = "firefront.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

export function chosenTheme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function setTheme(theme: Theme): void {
  localStorage.setItem(KEY, theme);
  applyTheme();
}

export function isDark(): boolean {
  const theme = chosenTheme();
  return theme === "dark" || (theme === "system" && system.matches);
}

/** Puts the theme on the page, and keeps it there when the system changes its own. */
export function applyTheme(): void {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  for (const listener of listeners) listener();
}
system.addEventListener("change", applyTheme);

export function useIsDark(): boolean {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, isDark);
}
