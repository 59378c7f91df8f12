import { Link2, Plus } from "lucide-react";
import { useCallback, useMemo } from "react";
import { takesImages, useModels } from "@/api/models";
import { Button, IconButton } from "@/components/ui/button";
import { useCommands } from "@/frame/commands";
import { Composer } from "@/playground/composer";
import { Lane } from "@/playground/lane";
import { useRoom } from "@/playground/room";
import { Notice } from "@/playground/room-header";
import { Column } from "./column";
import { RaceChart } from "./race-chart";
import { useAnyRunning } from "./running";

const MOST = 4;
const LEAST = 2;

/** Two to four models, or settings of one, on the same prompt, streaming at once. */
export function Compare() {
  const room = useRoom("compare", "/compare", LEAST);
  const { lanes, setLanes } = room;
  const { data: models } = useModels();
  const isRunning = useAnyRunning(lanes);
  const modelOf = useCallback(
    (lane: Lane) => models?.find(({ id }) => id === lane.get().settings.model),
    [models],
  );
  const add = useCallback(() => {
    const last = lanes.at(-1)?.get();
    if (last) setLanes([...lanes, new Lane({ settings: last.settings, turns: [] })]);
  }, [lanes, setLanes]);
  const commands = useMemo(
    () => [
      { name: "Clear all columns", run: () => lanes.forEach((lane) => void lane.clear()) },
      ...(lanes.length < MOST ? [{ name: "Add a column", run: add }] : []),
    ],
    [lanes, add],
  );
  useCommands(commands);
  const images = lanes.every((lane) => takesImages(modelOf(lane)));
  return (
    <main className="flex min-h-0 flex-1 flex-col">
      <header className="flex shrink-0 items-center gap-2 border-b border-line px-4 py-2.5">
        <h1 className="text-sm font-semibold">Compare</h1>
        <div className="ml-auto flex items-center gap-1">
          <IconButton label="Copy a link to this comparison" onClick={room.share}>
            <Link2 />
          </IconButton>
          <Button onClick={() => lanes.forEach((lane) => void lane.clear())}>Clear</Button>
          <Button onClick={add} disabled={lanes.length >= MOST}>
            <Plus aria-hidden /> Add a column
          </Button>
        </div>
      </header>
      <Notice text={room.notice} />
      <div className="flex min-h-0 flex-1 snap-x divide-x divide-line overflow-x-auto">
        {lanes.map((lane, index) => (
          <Column
            key={lane.key}
            lane={lane}
            name={`Column ${index + 1}`}
            first={models?.[Math.min(index, models.length - 1)]?.id}
            model={modelOf(lane)}
            onRemove={
              lanes.length > LEAST ? () => setLanes(lanes.filter((other) => other !== lane)) : null
            }
          />
        ))}
      </div>
      <RaceChart lanes={lanes} />
      <Composer
        isRunning={isRunning}
        takesImages={images}
        onSend={(text, attached) =>
          lanes.forEach((lane) => void lane.say(text, attached, modelOf(lane)))
        }
        onStop={() => lanes.forEach((lane) => void lane.stop())}
      />
    </main>
  );
}
