import { lazy, Suspense } from "react";
import { Button } from "@/components/ui/button";
import { Labelled } from "@/components/ui/labelled";
import type { Settings } from "./settings";
import type { FieldsProps } from "./settings-panel";

const JsonEditor = lazy(() => import("@/components/json-editor"));

const EXAMPLE = [
  {
    name: "get_weather",
    description: "The weather in a city now",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, unit: { enum: ["celsius", "fahrenheit"] } },
      required: ["city"],
    },
  },
];

/** The functions a model may call, as JSON. */
export function ToolFields({ settings, set, problem }: FieldsProps & { problem: string | null }) {
  const { tools, toolChoice } = settings;
  const hasTools = tools.trim() !== "";
  return (
    <>
      <Labelled
        label="Tools"
        help="Functions the model may ask you to call. It answers with a call; you give back the result, and it goes on."
        problem={problem ?? (hasTools ? problemOf(tools) : null)}
        aside={
          <Button
            size="small"
            look="ghost"
            onClick={() => set({ tools: hasTools ? "" : JSON.stringify(EXAMPLE, null, 2) })}
          >
            {hasTools ? "Remove" : "Add an example"}
          </Button>
        }
      >
        {(field) =>
          hasTools ? (
            <Suspense fallback={<p className="text-sm text-soft">Opening the editor</p>}>
              <JsonEditor
                value={tools}
                onChange={(next) => set({ tools: next })}
                label="Tools"
                isInvalid={field["aria-invalid"]}
              />
            </Suspense>
          ) : (
            <textarea
              {...field}
              className="field min-h-9 font-mono text-[13px]"
              rows={1}
              placeholder="A JSON list"
              value={tools}
              onChange={(event) => set({ tools: event.target.value })}
            />
          )
        }
      </Labelled>
      {hasTools && (
        <Labelled label="Whether a tool is called">
          {(field) => (
            <select
              {...field}
              className="field"
              value={toolChoice}
              onChange={(event) =>
                set({ toolChoice: event.target.value as Settings["toolChoice"] })
              }
            >
              <option value="auto">The model decides</option>
              <option value="required">Always</option>
              <option value="none">Never</option>
            </select>
          )}
        </Labelled>
      )}
    </>
  );
}

function problemOf(tools: string): string | null {
  try {
    JSON.parse(tools);
    return null;
  } catch (error) {
    return `Not JSON: ${(error as Error).message}`;
  }
}
