import { Dices } from "lucide-react";
import { IconButton } from "@/components/ui/button";
import { Labelled } from "@/components/ui/labelled";
import { FormFields } from "./form-fields";
import { type Lane, useLane } from "./lane";
import { NumberField } from "./number-field";
import { PARAMETERS, type Parameter } from "./parameters";
import type { Settings } from "./settings";
import { ToolFields } from "./tool-fields";

interface SettingsPanelProps {
  lane: Lane;
  /** A plain completion has neither instructions nor tools. */
  isCompletion?: boolean;
}

/** All that a request says beside the conversation. */
export function SettingsPanel({ lane, isCompletion = false }: SettingsPanelProps) {
  const { settings, problem } = useLane(lane);
  const set = (change: Partial<Settings>) => lane.set(change);
  const wrong = problem && "field" in problem ? problem : null;
  return (
    <div className="space-y-5">
      {!isCompletion && (
        <Labelled
          label="Instructions"
          help="What the model is told before the conversation: who it is, how to answer. Also called the system prompt."
        >
          {(field) => (
            <textarea
              {...field}
              className="field field-sizing-content max-h-72 min-h-20"
              placeholder="You are a helpful assistant."
              value={settings.system}
              onChange={(event) => set({ system: event.target.value })}
            />
          )}
        </Labelled>
      )}
      {PARAMETERS.filter(({ isAdvanced }) => !isAdvanced).map((parameter) => (
        <Sampling key={parameter.key} parameter={parameter} settings={settings} set={set} />
      ))}
      <FormFields
        settings={settings}
        set={set}
        problem={wrong?.field === "form" ? wrong.message : null}
      />
      {!isCompletion && (
        <ToolFields
          settings={settings}
          set={set}
          problem={wrong?.field === "tools" ? wrong.message : null}
        />
      )}
      <Logprobs settings={settings} set={set} />
      <details className="border-t border-line pt-3">
        <summary className="focus-ring cursor-pointer text-[13px] font-medium">
          More parameters
        </summary>
        <div className="mt-4 space-y-5">
          <StopField settings={settings} set={set} />
          {PARAMETERS.filter(({ isAdvanced }) => isAdvanced).map((parameter) => (
            <Sampling key={parameter.key} parameter={parameter} settings={settings} set={set} />
          ))}
        </div>
      </details>
    </div>
  );
}

export interface FieldsProps {
  settings: Settings;
  set: (change: Partial<Settings>) => void;
}

function Sampling({ parameter, settings, set }: FieldsProps & { parameter: Parameter }) {
  const { key } = parameter;
  const change = (value: number | null) =>
    set({ sampling: { ...settings.sampling, [key]: value } });
  const field = (
    <NumberField parameter={parameter} value={settings.sampling[key] ?? null} onChange={change} />
  );
  if (key !== "seed") return field;
  return (
    <div className="relative">
      {field}
      <div className="absolute top-[-4px] right-0">
        <IconButton label="Draw a seed" onClick={() => change(Math.floor(Math.random() * 2 ** 31))}>
          <Dices />
        </IconButton>
      </div>
    </div>
  );
}

function StopField({ settings, set }: FieldsProps) {
  return (
    <Labelled
      label="Stop at"
      help="The answer ends before any of these texts. One a line, up to 16."
    >
      {(field) => (
        <textarea
          {...field}
          className="field field-sizing-content min-h-9 font-mono text-[13px]"
          value={settings.stop.join("\n")}
          onChange={(event) => {
            const lines = event.target.value.split("\n").slice(0, 16);
            set({ stop: event.target.value ? lines : [] });
          }}
        />
      )}
    </Labelled>
  );
}

function Logprobs({ settings, set }: FieldsProps) {
  return (
    <Labelled
      label="Show how sure the model is"
      help="Shows for each token how likely it was, and what else it could have been (log-probabilities)."
    >
      {(field) => (
        <select
          {...field}
          className="field"
          value={settings.logprobs ?? ""}
          onChange={(event) =>
            set({ logprobs: event.target.value ? Number(event.target.value) : null })
          }
        >
          <option value="">No</option>
          <option value="5">Yes, with 5 alternatives</option>
          <option value="20">Yes, with 20 alternatives</option>
        </select>
      )}
    </Labelled>
  );
}
