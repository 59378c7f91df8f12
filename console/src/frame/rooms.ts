import { Columns2, type LucideIcon, MessageSquare, TextCursorInput } from "lucide-react";

/** The rooms there are. One that is not built yet is not listed. */
export interface Room {
  readonly path: "/" | "/compare" | "/completion";
  readonly name: string;
  readonly about: string;
  readonly icon: LucideIcon;
}

export const ROOMS: readonly Room[] = [
  { path: "/", name: "Chat", about: "Talk to a model", icon: MessageSquare },
  { path: "/compare", name: "Compare", about: "Two to four models on one prompt", icon: Columns2 },
  {
    path: "/completion",
    name: "Completion",
    about: "Let a model go on with a text",
    icon: TextCursorInput,
  },
];
