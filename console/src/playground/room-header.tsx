import { Code, Link2, SlidersHorizontal } from "lucide-react";
import type { ReactNode } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { useIsWide } from "@/frame/width";
import { type Lane, useLane } from "./lane";
import { ModelPicker } from "./model-picker";
import type { RoomLanes } from "./room";

interface RoomHeaderProps {
  name: string;
  room: RoomLanes;
  lane: Lane;
  onCode: () => void;
  onSettings: () => void;
  /** Buttons that this room alone has. */
  children?: ReactNode;
}

/** The line above a room of one lane: its model, and what can be done with all of it. */
export function RoomHeader({ name, room, lane, onCode, onSettings, children }: RoomHeaderProps) {
  const model = useLane(lane, ({ settings }) => settings.model);
  const isWide = useIsWide();
  return (
    <>
      <header className="flex shrink-0 items-center gap-2 border-b border-line px-4 py-2.5">
        <h1 className="sr-only">{name}</h1>
        <ModelPicker chosen={model} onChoose={lane.choose} />
        <div className="ml-auto flex items-center gap-1">
          {children}
          <IconButton label="Copy a link to this" onClick={room.share}>
            <Link2 />
          </IconButton>
          {!isWide && (
            <IconButton label="Settings" onClick={onSettings}>
              <SlidersHorizontal />
            </IconButton>
          )}
          <Button onClick={onCode} aria-label="Get the code">
            <Code aria-hidden /> <span className="max-sm:hidden">Get the code</span>
          </Button>
        </div>
      </header>
      <Notice text={room.notice} />
    </>
  );
}

/** A line that says what has just happened. */
export function Notice({ text }: { text: string }) {
  return (
    <p role="status" className="bg-accent-soft px-4 py-2 text-sm empty:hidden">
      {text}
    </p>
  );
}
