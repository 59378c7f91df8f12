import { useEffect, useState } from "react";
import { Labelled } from "@/components/ui/labelled";
import type { Parameter } from "./parameters";

interface NumberFieldProps {
  parameter: Parameter;
  /** null: nothing is sent, the server's own default holds. */
  value: number | null;
  onChange: (value: number | null) => void;
}

/** A sampling parameter: a slider where its range is one for sliding, and a field that may be empty. */
export function NumberField({ parameter, value, onChange }: NumberFieldProps) {
  const { label, help, min, max, step, usual } = parameter;
  const [text, setText] = useState(value === null ? "" : String(value));
  useEffect(() => {
    setText((now) => (asNumber(now) === value ? now : value === null ? "" : String(value)));
  }, [value]);
  const typed = asNumber(text);
  const isWrong = typed !== null && !(typed >= min && typed <= max);
  const change = (next: string) => {
    setText(next);
    const number = asNumber(next);
    if (number === null) onChange(null);
    else if (number >= min && number <= max) onChange(number);
  };
  const hasSlider = max - min <= 4;
  const input = (field: object) => (
    <input
      {...field}
      type="number"
      inputMode="decimal"
      className={`field tabular-nums ${hasSlider ? "w-20! shrink-0" : ""}`}
      min={min}
      max={max}
      step={step === 1 ? 1 : "any"}
      placeholder={usual === null ? "none" : String(usual)}
      value={text}
      onChange={(event) => change(event.target.value)}
    />
  );
  return (
    <Labelled label={label} help={help} problem={isWrong ? `Must be ${min} to ${max}.` : null}>
      {(field) =>
        hasSlider ? (
          <div className="flex items-center gap-3">
            <input
              type="range"
              aria-label={`${label}, slider`}
              className="focus-ring h-5 w-full min-w-0 accent-accent"
              min={min}
              max={max}
              step={step}
              value={value ?? usual ?? min}
              onChange={(event) => change(event.target.value)}
            />
            {input(field)}
          </div>
        ) : (
          input(field)
        )
      }
    </Labelled>
  );
}

function asNumber(text: string): number | null {
  return text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text);
}
