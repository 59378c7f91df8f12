import { SquarePen } from "lucide-react";
import { lazy, Suspense, useMemo, useState } from "react";
import { takesImages, useModels } from "@/api/models";
import { Button, IconButton } from "@/components/ui/button";
import { useCommands } from "@/frame/commands";
import { Composer } from "./composer";
import { Conversation } from "./conversation";
import { useLane } from "./lane";
import { chatBody } from "./request";
import { useRoom } from "./room";
import { RoomHeader } from "./room-header";
import { SettingsPlace } from "./settings-place";
import { asked } from "./turns";

const CodeDialog = lazy(() => import("@/code/code-dialog"));

/** One model: a conversation, its settings, its code. */
export function Playground() {
  const room = useRoom("chat", "/");
  const lane = room.lanes[0];
  if (!lane) throw new Error("a room has at least one lane");
  const name = useLane(lane, ({ settings }) => settings.model);
  const isEmpty = useLane(lane, ({ turns }) => turns.length === 0);
  const isRunning = useLane(lane, ({ running }) => running !== null);
  const { data: models } = useModels();
  const model = models?.find(({ id }) => id === name);
  const [isCodeOpen, setCodeOpen] = useState(false);
  const [isSettingsOpen, setSettingsOpen] = useState(false);
  const commands = useMemo(
    () => [
      { name: "New chat", run: () => lane.clear() },
      { name: "Get the code", run: () => setCodeOpen(true) },
      { name: "Copy a link to this chat", run: room.share },
      { name: "Regenerate the last answer", run: () => void lane.regenerate(model) },
      { name: "Stop the answer", run: () => lane.stop() },
    ],
    [lane, model, room],
  );
  useCommands(commands);
  const request = () => {
    const { settings, turns } = lane.get();
    return { kind: "chat" as const, body: chatBody(settings, asked(turns)) };
  };
  return (
    <div className="flex min-h-0 flex-1">
      <main className="flex min-h-0 min-w-0 flex-1 flex-col">
        <RoomHeader
          name="Chat"
          room={room}
          lane={lane}
          onCode={() => setCodeOpen(true)}
          onSettings={() => setSettingsOpen(true)}
        >
          <IconButton label="New chat" onClick={() => lane.clear()} disabled={isEmpty}>
            <SquarePen />
          </IconButton>
        </RoomHeader>
        <Conversation
          lane={lane}
          model={model}
          empty={<Welcome onPick={(text) => void lane.say(text, [], model)} />}
        />
        <Composer
          isRunning={isRunning}
          takesImages={takesImages(model)}
          onSend={(text, images) => void lane.say(text, images, model)}
          onStop={() => lane.stop()}
        />
      </main>
      <SettingsPlace lane={lane} isOpen={isSettingsOpen} onClose={() => setSettingsOpen(false)} />
      {isCodeOpen && (
        <Suspense>
          <CodeDialog request={request} onClose={() => setCodeOpen(false)} />
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
