import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import { cn } from "@/components/cn";
import { Modal } from "@/components/ui/dialog";
import { useAllCommands } from "./commands";

/** All commands by name: type, choose with the arrows, Enter runs. */
export function Palette({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  return (
    <Modal isOpen={isOpen} onClose={onClose} title="Commands" className="max-w-lg!">
      <CommandList onClose={onClose} />
    </Modal>
  );
}

function CommandList({ onClose }: { onClose: () => void }) {
  const all = useAllCommands();
  const [wanted, setWanted] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  const words = wanted.toLowerCase().split(/\s+/);
  const found = all.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  const chosen = Math.min(at, found.length - 1);
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const run = (index: number) => {
    const command = found[index];
    if (!command) return;
    onClose();
    command.run();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1 };
    const step = steps[event.key];
    if (step !== undefined && found.length) {
      event.preventDefault();
      setAt((chosen + step + found.length) % found.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(chosen);
    }
  };
  return (
    <div className="space-y-2">
      <input
        className="field"
        role="combobox"
        aria-label="Search commands"
        aria-expanded="true"
        aria-controls={id}
        aria-activedescendant={found.length ? `${id}-${chosen}` : undefined}
        placeholder="Search"
        value={wanted}
        onChange={(event) => {
          setWanted(event.target.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <div
        id={id}
        role="listbox"
        aria-label="Commands"
        ref={list}
        className="max-h-80 overflow-y-auto"
      >
        {found.map((command, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field above has the focus and the keys
          <div
            key={command.name}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === chosen}
            tabIndex={-1}
            className={cn(
              "flex cursor-pointer items-center justify-between rounded-md px-3 py-2 text-sm",
              index === chosen && "bg-hover",
            )}
            onPointerMove={() => setAt(index)}
            onClick={() => run(index)}
          >
            {command.name}
            {command.keys && <kbd className="text-xs text-soft">{command.keys}</kbd>}
          </div>
        ))}
      </div>
      {!found.length && <p className="px-3 py-2 text-sm text-soft">No command has this name.</p>}
    </div>
  );
}
