import { useLocation, useNavigate } from "@tanstack/react-router";
import { Code, Link2, SlidersHorizontal, SquarePen } from "lucide-react";
import { lazy, Suspense, useEffect, useMemo, useState } from "react";
import { takesImages, useModels } from "@/api/models";
import { Button, IconButton } from "@/components/ui/button";
import { Modal } from "@/components/ui/dialog";
import { useCommands } from "@/frame/commands";
import { useIsWide } from "@/frame/width";
import { Composer } from "./composer";
import { Conversation } from "./conversation";
import { useLane } from "./lane";
import { ModelPicker } from "./model-picker";
import { chatBody } from "./request";
import { Notice, useRoom } from "./room";
import { SettingsPanel } from "./settings-panel";
import { asked } from "./turns";

const CodeDialog = lazy(() => import("@/code/code-dialog"));

/** One model: a conversation, its settings, its code. */
export function Playground() {
  const room = useRoom("chat", 1);
  const lane = room.lanes[0];
  if (!lane) throw new Error("a room has at least one lane");
  const { settings, turns, running } = useLane(lane);
  const { data: models } = useModels();
  const model = models?.find(({ id }) => id === settings.model);
  const [isCodeOpen, setCodeOpen] = useState(false);
  const isWide = useIsWide();
  const [isSettingsOpen, setSettingsOpen] = useState(false);
  const navigate = useNavigate();
  const { hash } = useLocation();
  useEffect(() => {
    if (hash.startsWith("share="))
      void room.open(`#${hash}`).then(() => navigate({ to: "/", replace: true }));
  }, [hash, room.open, navigate]);
  const choose = useMemo(() => (id: string) => lane.set({ model: id }), [lane]);
  const commands = useMemo(
    () => [
      { name: "New chat", run: () => lane.clear() },
      { name: "Get the code", run: () => setCodeOpen(true) },
      { name: "Copy a link to this chat", run: () => void room.share("/") },
      { name: "Regenerate the last answer", run: () => void lane.regenerate(model) },
      { name: "Stop the answer", run: () => lane.stop() },
    ],
    [lane, model, room],
  );
  useCommands(commands);
  return (
    <div className="flex min-h-0 flex-1">
      <main className="flex min-h-0 min-w-0 flex-1 flex-col">
        <header className="flex shrink-0 items-center gap-2 border-b border-line px-4 py-2.5">
          <h1 className="sr-only">Chat</h1>
          <ModelPicker chosen={settings.model} onChoose={choose} />
          <div className="ml-auto flex items-center gap-1">
            <IconButton label="New chat" onClick={() => lane.clear()} disabled={!turns.length}>
              <SquarePen />
            </IconButton>
            <IconButton label="Copy a link to this chat" onClick={() => void room.share("/")}>
              <Link2 />
            </IconButton>
            {!isWide && (
              <IconButton label="Settings" onClick={() => setSettingsOpen(true)}>
                <SlidersHorizontal />
              </IconButton>
            )}
            <Button onClick={() => setCodeOpen(true)} aria-label="Get the code">
              <Code aria-hidden /> <span className="max-sm:hidden">Get the code</span>
            </Button>
          </div>
        </header>
        <Notice text={room.notice} />
        <Conversation
          lane={lane}
          model={model}
          empty={<Welcome onPick={(text) => void lane.say(text, [], model)} />}
        />
        <Composer
          isRunning={running !== null}
          takesImages={takesImages(model)}
          onSend={(text, images) => void lane.say(text, images, model)}
          onStop={() => lane.stop()}
        />
      </main>
      {isWide ? (
        <aside
          aria-label="Settings"
          className="w-80 shrink-0 overflow-y-auto border-l border-line bg-raised p-4"
        >
          <SettingsPanel lane={lane} />
        </aside>
      ) : (
        <Modal
          isOpen={isSettingsOpen}
          onClose={() => setSettingsOpen(false)}
          title="Settings"
          place="side"
        >
          <SettingsPanel lane={lane} />
        </Modal>
      )}
      {isCodeOpen && (
        <Suspense>
          <CodeDialog
            request={() => ({ kind: "chat", body: chatBody(settings, asked(turns)) })}
            onClose={() => setCodeOpen(false)}
          />
        </Suspense>
      )}
    </div>
  );
}

const IDEAS = [
  "Why is the sky blue? One sentence.",
  "Write a haiku about a fire front.",
  "List three uses of a small language model.",
];

function Welcome({ onPick }: { onPick: (text: string) => void }) {
  return (
    <div className="m-auto max-w-md py-8 text-center">
      <h2 className="text-xl font-semibold">What shall it answer?</h2>
      <p className="mt-1 text-sm text-soft">Write below, or begin with one of these.</p>
      <ul className="mt-5 space-y-2">
        {IDEAS.map((idea) => (
          <li key={idea}>
            <Button className="w-full justify-start! font-normal!" onClick={() => onPick(idea)}>
              {idea}
            </Button>
          </li>
        ))}
      </ul>
    </div>
  );
}
