import { Code, SlidersHorizontal, X } from "lucide-react";
import { lazy, Suspense, useEffect, useState } from "react";
import type { Model } from "@/api/models";
import { IconButton } from "@/components/ui/button";
import { Modal } from "@/components/ui/dialog";
import { Conversation } from "@/playground/conversation";
import { type Lane, useLane } from "@/playground/lane";
import { ModelPicker } from "@/playground/model-picker";
import { chatBody } from "@/playground/request";
import { SettingsPanel } from "@/playground/settings-panel";
import { asked } from "@/playground/turns";

const CodeDialog = lazy(() => import("@/code/code-dialog"));

interface ColumnProps {
  lane: Lane;
  name: string;
  /** The model that it begins with. */
  first: string | undefined;
  model: Model | undefined;
  onRemove: (() => void) | null;
}

/** One lane of a comparison. */
export function Column({ lane, name, first, model, onRemove }: ColumnProps) {
  const chosen = useLane(lane, ({ settings }) => settings.model);
  const [isCodeOpen, setCodeOpen] = useState(false);
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    if (!chosen && first) lane.choose(first);
  }, [chosen, first, lane]);
  const request = () => {
    const { settings, turns } = lane.get();
    return { kind: "chat" as const, body: chatBody(settings, asked(turns)) };
  };
  return (
    <section
      aria-label={name}
      className="flex min-w-72 flex-1 snap-start flex-col max-sm:min-w-[88vw]"
    >
      <header className="flex items-center gap-1 border-b border-line px-3 py-2">
        <ModelPicker chosen={chosen} onChoose={lane.choose} />
        <div className="ml-auto flex">
          <IconButton label={`Code of ${name}`} onClick={() => setCodeOpen(true)}>
            <Code />
          </IconButton>
          <IconButton label={`Settings of ${name}`} onClick={() => setOpen(true)}>
            <SlidersHorizontal />
          </IconButton>
          {onRemove && (
            <IconButton label={`Remove ${name}`} onClick={onRemove}>
              <X />
            </IconButton>
          )}
        </div>
      </header>
      <Conversation
        lane={lane}
        model={model}
        name={`Conversation of ${name}`}
        empty={<p className="m-auto text-sm text-soft">Its answer comes here.</p>}
      />
      <Modal
        isOpen={isOpen}
        onClose={() => setOpen(false)}
        title={`Settings of ${name}`}
        place="side"
      >
        <SettingsPanel lane={lane} />
      </Modal>
      {isCodeOpen && (
        <Suspense>
          <CodeDialog request={request} onClose={() => setCodeOpen(false)} />
        </Suspense>
      )}
    </section>
  );
}
