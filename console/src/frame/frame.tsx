import { Link, Outlet, useNavigate, useRouterState } from "@tanstack/react-router";
import { BookOpen, Command as CommandIcon, KeyRound, Moon, Sun } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { useKeyWanted } from "@/api/client";
import { cn } from "@/components/cn";
import { IconButton } from "@/components/ui/button";
import flame from "@/flame.svg";
import { type Command, useCommands } from "./commands";
import { KeyDialog } from "./key-dialog";
import { Palette } from "./palette";
import { ROOMS } from "./rooms";
import { ServerState } from "./server-state";
import { setTheme, useIsDark } from "./theme";

/** What is around every room: the way between them, the key, the palette, the theme. */
export function Frame() {
  const navigate = useNavigate();
  const dark = useIsDark();
  const isKeyWanted = useKeyWanted();
  const [isKeyOpen, setKeyOpen] = useState(false);
  const [isPaletteOpen, setPaletteOpen] = useState(false);
  useEffect(() => setKeyOpen(isKeyWanted), [isKeyWanted]);
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(() => {
    const room = ROOMS.find((one) => one.path === path);
    document.title = room ? `${room.name} – firefront` : "firefront";
  }, [path]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setPaletteOpen((open) => !open);
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const commands = useMemo<Command[]>(
    () => [
      ...ROOMS.map(({ path, name }) => ({
        name: `Go to ${name}`,
        run: () => void navigate({ to: path }),
      })),
      { name: dark ? "Light theme" : "Dark theme", run: () => setTheme(dark ? "light" : "dark") },
      { name: "Theme of the system", run: () => setTheme("system") },
      { name: "Enter a key", run: () => setKeyOpen(true) },
      { name: "API documentation", run: () => void window.open("/docs", "_blank", "noopener") },
    ],
    [navigate, dark],
  );
  useCommands(commands);
  return (
    <div className="flex h-dvh flex-col md:flex-row">
      <a
        href="#room"
        className="focus-ring sr-only z-50 rounded-lg bg-raised p-2 focus:not-sr-only focus:absolute"
      >
        Skip to the room
      </a>
      <header className="order-last flex shrink-0 border-line bg-raised max-md:border-t md:order-first md:w-18 md:flex-col md:border-r">
        <Link
          to="/"
          className="focus-ring hidden place-items-center py-4 md:grid"
          aria-label="firefront"
        >
          <img src={flame} alt="" className="size-8" />
        </Link>
        <nav aria-label="Rooms" className="flex flex-1 justify-center md:flex-col md:justify-start">
          {ROOMS.map((room) => (
            <RoomLink key={room.path} {...room} />
          ))}
        </nav>
        <div className="flex items-center gap-1 p-1 md:flex-col md:pb-3">
          <IconButton label="Commands (Ctrl K)" onClick={() => setPaletteOpen(true)}>
            <CommandIcon />
          </IconButton>
          <IconButton label="Key" onClick={() => setKeyOpen(true)}>
            <KeyRound />
          </IconButton>
          <IconButton
            label={dark ? "Light theme" : "Dark theme"}
            onClick={() => setTheme(dark ? "light" : "dark")}
          >
            {dark ? <Sun /> : <Moon />}
          </IconButton>
          <a
            href="/docs"
            target="_blank"
            rel="noopener"
            aria-label="API documentation"
            className="focus-ring grid size-8 place-items-center rounded-lg text-soft hover:bg-hover hover:text-strong max-sm:hidden"
          >
            <BookOpen className="size-4" />
          </a>
        </div>
      </header>
      <div id="room" className="flex min-h-0 min-w-0 flex-1 flex-col">
        <ServerState />
        <Outlet />
      </div>
      <KeyDialog isOpen={isKeyOpen} isWanted={isKeyWanted} onClose={() => setKeyOpen(false)} />
      <Palette isOpen={isPaletteOpen} onClose={() => setPaletteOpen(false)} />
    </div>
  );
}

function RoomLink({ path, name, icon: Icon }: (typeof ROOMS)[number]) {
  const isHere = useRouterState({ select: (state) => state.location.pathname === path });
  return (
    <Link
      to={path}
      className={cn(
        "focus-ring flex flex-col items-center gap-1 px-3 py-2 text-[11px] md:px-1 md:py-2.5",
        isHere ? "text-accent" : "text-soft hover:text-strong",
      )}
      aria-current={isHere ? "page" : undefined}
    >
      <span
        className={cn("grid h-7 w-11 place-items-center rounded-full", isHere && "bg-accent-soft")}
      >
        <Icon className="size-4.5" aria-hidden />
      </span>
      {name}
    </Link>
  );
}
