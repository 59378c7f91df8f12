import { lazy, Suspense, useState } from "react";
import { Button } from "@/components/ui/button";
import { Labelled } from "@/components/ui/labelled";
import { useToolsCheck } from "./form-check";
import type { Settings } from "./settings";
import type { FieldsProps } from "./settings-panel";

const JsonEditor = lazy(() => import("@/components/json-editor"));

const EXAMPLE = JSON.stringify(
  [
    {
      name: "get_weather",
      description: "The weather in a city now",
      parameters: {
        type: "object",
        properties: { city: { type: "string" }, unit: { enum: ["celsius", "fahrenheit"] } },
        required: ["city"],
      },
    },
  ],
  null,
  2,
);

/** The functions a model may call, as JSON. */
export function ToolFields({ settings, set, problem }: FieldsProps & { problem: string | null }) {
  const { tools, toolChoice } = settings;
  const hasTools = tools.trim() !== "";
  const [isWriting, setWriting] = useState(false); // also while nothing is written
  const isOpen = isWriting || hasTools;
  const write = (next: string, isBegun: boolean) => {
    setWriting(isBegun);
    set({ tools: next });
  };
  const wrong = useToolsCheck(settings);
  return (
    <>
      <Labelled
        label="Tools"
        help="Functions the model may ask you to call. It answers with a call; you give back the result, and it goes on."
        problem={problem ?? wrong}
        aside={
          isOpen ? (
            <Button size="small" look="ghost" onClick={() => write("", false)}>
              Remove
            </Button>
          ) : (
            <span className="flex">
              <Button size="small" look="ghost" onClick={() => write("[]", true)}>
                Write
              </Button>
              <Button size="small" look="ghost" onClick={() => write(EXAMPLE, true)}>
                Add an example
              </Button>
            </span>
          )
        }
      >
        {(field) =>
          isOpen && (
            <Suspense fallback={<p className="text-sm text-soft">Opening the editor</p>}>
              <JsonEditor
                value={tools}
                onChange={(next) => set({ tools: next })}
                label="Tools"
                isInvalid={field["aria-invalid"]}
              />
            </Suspense>
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
