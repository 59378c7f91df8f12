import { useLocation, useNavigate } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState } from "react";
import { copyText } from "@/components/copy-button";
import type { Room } from "@/frame/rooms";
import { Lane } from "./lane";
import { keepLanes, keptLanes, sharedLanes, shareLink } from "./session";

/** The lanes of a room: as they were left, kept as they change, shared and opened by link. */
export interface RoomLanes {
  readonly lanes: readonly Lane[];
  readonly setLanes: (lanes: readonly Lane[]) => void;
  /** Copies a link that opens all this. */
  readonly share: () => void;
  /** What has just been done, or could not be. */
  readonly notice: string;
}

type RoomPath = Room["path"];

const KEEP_AFTER_MS = 500;

export function useRoom(name: string, path: RoomPath, atLeast = 1): RoomLanes {
  const [lanes, setLanes] = useState<readonly Lane[]>(() => {
    const kept = keptLanes(name) ?? [];
    while (kept.length < atLeast) kept.push(new Lane());
    return kept;
  });
  const [notice, setNotice] = useState("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const keep = () => {
      clearTimeout(timer);
      timer = undefined;
      keepLanes(name, lanes);
    };
    const later = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        if (lanes.some((lane) => lane.get().running)) later();
        else keep();
      }, KEEP_AFTER_MS);
    };
    const unsubscribe = lanes.map((lane) => lane.subscribe(later));
    addEventListener("pagehide", keep);
    return () => {
      removeEventListener("pagehide", keep);
      for (const stop of unsubscribe) stop();
      keep();
    };
  }, [name, lanes]);
  useEffect(() => {
    if (!notice) return;
    const timer = setTimeout(() => setNotice(""), 6000);
    return () => clearTimeout(timer);
  }, [notice]);
  const share = useCallback(async () => {
    try {
      await copyText(await shareLink(lanes, path));
      setNotice(
        "The link is copied. Whoever opens it sees what is here; it is in the link itself, on no server.",
      );
    } catch (error) {
      setNotice((error as Error).message);
    }
  }, [lanes, path]);
  const navigate = useNavigate();
  const { hash } = useLocation();
  useEffect(() => {
    const open = async () => {
      try {
        const shared = await sharedLanes(`#${hash}`);
        if (!shared) return;
        while (shared.length < atLeast) shared.push(new Lane());
        setLanes(shared);
        setNotice("Opened from a link. Nothing has been run.");
      } catch (error) {
        setNotice((error as Error).message);
      }
      await navigate({ to: path, replace: true });
    };
    void open();
  }, [hash, path, atLeast, navigate]);
  return useMemo(
    () => ({ lanes, setLanes, share: () => void share(), notice }),
    [lanes, share, notice],
  );
}
