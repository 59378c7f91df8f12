import { useEffect, useRef, useState } from "react";
import type uPlot from "uplot";
import { useIsDark } from "@/frame/theme";
import type { Lane } from "@/playground/lane";
import { subscribeAll } from "./running";

const COLOURS = ["var(--accent)", "var(--good)", "#3b82c4", "#a05fc4"];
const HEIGHT = 120;

/** Tokens over time of the lanes' last answers: who begins first, who is faster. */
export function RaceChart({ lanes }: { lanes: readonly Lane[] }) {
  const place = useRef<HTMLDivElement>(null);
  const [isShown, setShown] = useState(false);
  const dark = useIsDark();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours change with the theme
  useEffect(() => {
    let chart: uPlot | null = null;
    let isGone = false;
    let isLoading = false;
    const draw = async () => {
      const data = dataOf(lanes);
      setShown(data !== null);
      if (!data || !place.current) return;
      if (chart) {
        chart.setData(data);
      } else if (!isLoading) {
        isLoading = true;
        const { default: Plot } = await import("uplot");
        if (isGone || !place.current) return;
        chart = new Plot(optionsOf(lanes, place.current), data, place.current);
      }
    };
    void draw();
    const unsubscribe = subscribeAll(lanes, () => void draw());
    const resized = new ResizeObserver(([entry]) => {
      if (entry && chart) chart.setSize({ width: entry.contentRect.width, height: HEIGHT });
    });
    if (place.current) resized.observe(place.current);
    return () => {
      isGone = true;
      unsubscribe();
      resized.disconnect();
      chart?.destroy();
    };
  }, [lanes, dark]);
  return (
    <figure
      className={isShown ? "border-t border-line px-4 pt-2" : "h-0 overflow-hidden"}
      aria-label="Tokens over time"
    >
      <ul className="flex flex-wrap gap-x-4 text-xs text-soft" aria-hidden>
        {lanes.map((lane, index) => (
          <li key={lane.key} className="flex items-center gap-1.5">
            <span className="h-0.5 w-4" style={{ backgroundColor: COLOURS[index] }} />
            {index + 1} {lane.get().settings.model}
          </li>
        ))}
      </ul>
      <div
        ref={place}
        role="img"
        aria-label="A line for each column: its tokens over the seconds since the request"
      />
    </figure>
  );
}

/** One time axis for all lanes; null where nothing has come yet. */
function dataOf(lanes: readonly Lane[]): uPlot.AlignedData | null {
  const timelines = lanes.map((lane) => lane.get().timeline);
  if (timelines.every((timeline) => timeline.length < 2)) return null;
  const times = [...new Set(timelines.flatMap((timeline) => timeline.map(([s]) => s)))].sort(
    (a, b) => a - b,
  );
  const rows = timelines.map((timeline) => {
    const at = new Map(timeline);
    return times.map((time) => at.get(time) ?? null);
  });
  return [times, ...rows];
}

function optionsOf(lanes: readonly Lane[], place: HTMLElement): uPlot.Options {
  const style = getComputedStyle(place);
  const colour = (value: string) =>
    value.replace(/var\((--[\w-]+)\)/, (_, name) => style.getPropertyValue(name));
  const axis = { stroke: colour("var(--soft)"), grid: { stroke: colour("var(--line)"), width: 1 } };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    scales: { x: { time: false, range: (_, __, max) => [0, max] } }, // what is empty is the wait
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} s`) },
      { ...axis, size: 44 },
    ],
    series: [
      { label: "Seconds" },
      ...lanes.map((lane, index) => ({
        label: `${index + 1} ${lane.get().settings.model}`,
        stroke: colour(COLOURS[index] ?? "gray"),
        width: 2,
        spanGaps: true,
        points: { show: false },
      })),
    ],
    legend: { show: false },
  };
}
