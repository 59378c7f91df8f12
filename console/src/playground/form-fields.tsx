import { lazy, Suspense } from "react";
import { Labelled } from "@/components/ui/labelled";
import { useFormCheck } from "./form-check";
import type { Format, Settings } from "./settings";
import type { FieldsProps } from "./settings-panel";

const JsonEditor = lazy(() => import("@/components/json-editor"));

const NAMES: Record<Format, string> = {
  text: "Free text",
  json_object: "Any JSON object",
  json_schema: "JSON by a schema",
  regex: "A regular expression",
  choice: "One of several choices",
  grammar: "A grammar (Lark or GBNF)",
};

const EXAMPLES: Partial<Record<Format, string>> = {
  json_schema: JSON.stringify(
    {
      type: "object",
      properties: { city: { type: "string" }, sunny: { type: "boolean" } },
      required: ["city", "sunny"],
      additionalProperties: false,
    },
    null,
    2,
  ),
  regex: "\\d{4}-\\d{2}-\\d{2}",
  choice: "yes\nno\nunclear",
  grammar: 'start: ("yes" | "no") "."',
};

/** The form an answer must have. What is written is checked by the server as it is written. */
export function FormFields({ settings, set, problem }: FieldsProps & { problem: string | null }) {
  const { format, form } = settings;
  const check = useFormCheck(settings);
  const choose = (next: Format) => {
    const isUntouched = !form.trim() || Object.values(EXAMPLES).includes(form);
    set({ format: next, form: isUntouched ? (EXAMPLES[next] ?? "") : form });
  };
  return (
    <>
      <Labelled
        label="Form of the answer"
        help="Makes malformed answers impossible: tokens that would break the form are never chosen."
      >
        {(field) => (
          <select
            {...field}
            className="field"
            value={format}
            onChange={(event) => choose(event.target.value as Format)}
          >
            {Object.entries(NAMES).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        )}
      </Labelled>
      {EXAMPLES[format] !== undefined && (
        <Labelled label={LABELS[format] ?? ""} problem={problem ?? check.problem}>
          {(field) => (
            <>
              <FormEditor
                format={format}
                value={form}
                field={field}
                onChange={(next) => set({ form: next })}
              />
              {check.note && <p className="text-xs text-good">{check.note}</p>}
            </>
          )}
        </Labelled>
      )}
    </>
  );
}

const LABELS: Partial<Record<Format, string>> = {
  json_schema: "JSON schema",
  regex: "Expression",
  choice: "Choices, one a line",
  grammar: "Grammar",
};

interface FormEditorProps {
  format: Format;
  value: Settings["form"];
  field: { id: string; "aria-describedby": string; "aria-invalid": boolean };
  onChange: (value: string) => void;
}

function FormEditor({ format, value, field, onChange }: FormEditorProps) {
  const plain = (
    <textarea
      {...field}
      className="field field-sizing-content max-h-96 min-h-9 font-mono text-[13px]"
      spellCheck={false}
      value={value}
      onChange={(event) => onChange(event.target.value)}
    />
  );
  if (format !== "json_schema") return plain;
  return (
    <Suspense fallback={plain}>
      <JsonEditor
        value={value}
        onChange={onChange}
        label="JSON schema"
        isInvalid={field["aria-invalid"]}
      />
    </Suspense>
  );
}
