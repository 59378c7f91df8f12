import { type ClassValue, clsx } from "clsx";

/** Class names that apply, joined. */
export function cn(...names: ClassValue[]): string {
  return clsx(names);
}
