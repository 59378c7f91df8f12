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
  isCompletion?: boolean | undefined;
}

/** All that a request says beside the conversation. */
export function SettingsPanel({ lane, isCompletion = false }: SettingsPanelProps) {
  const settings = useLane(lane, (state) => state.settings);
  const problem = useLane(lane, (state) => state.problem);
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
          {!isCompletion && <EffortField settings={settings} set={set} />}
          {PARAMETERS.filter(({ isAdvanced }) => isAdvanced).map((parameter) => (
            <Sampling key={parameter.key} parameter={parameter} settings={settings} set={set} />
          ))}
          <TextField
            label="Bias of tokens"
            help="A JSON object from token ids to numbers of -100 to 100, which are added to their chances. -100 forbids a token."
            placeholder='{"1234": -100}'
            value={settings.bias}
            problem={wrong?.field === "bias" ? wrong.message : null}
            onChange={(bias) => set({ bias })}
          />
          {!isCompletion && (
            <TextField
              label="Expected answer"
              help="Text that much of the answer will be a copy of, such as a file to be edited. The answer stays the same, and comes sooner where this is right."
              value={settings.prediction}
              onChange={(prediction) => set({ prediction })}
            />
          )}
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

function EffortField({ settings, set }: FieldsProps) {
  return (
    <Labelled
      label="Thinking"
      help="How much a model that can think does so before it answers. Others ignore it."
    >
      {(field) => (
        <select
          {...field}
          className="field"
          value={settings.effort}
          onChange={(event) => set({ effort: event.target.value as Settings["effort"] })}
        >
          <option value="">As the model is used to</option>
          <option value="none">None</option>
          <option value="low">A little</option>
          <option value="medium">Some</option>
          <option value="high">Much</option>
        </select>
      )}
    </Labelled>
  );
}

interface TextFieldProps {
  label: string;
  help: string;
  placeholder?: string;
  value: string;
  problem?: string | null;
  onChange: (value: string) => void;
}

function TextField({ label, help, placeholder, value, problem, onChange }: TextFieldProps) {
  return (
    <Labelled label={label} help={help} problem={problem}>
      {(field) => (
        <textarea
          {...field}
          className="field field-sizing-content max-h-60 min-h-9 font-mono text-[13px]"
          placeholder={placeholder}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        />
      )}
    </Labelled>
  );
}
