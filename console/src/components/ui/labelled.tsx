import { CircleHelp } from "lucide-react";
import { type ReactNode, useId } from "react";
import { Tip } from "./tooltip";

interface LabelledProps {
  label: string;
  help?: string;
  /** What is wrong with the value. */
  problem?: string | null | undefined;
  /** Stands at the label's right. */
  aside?: ReactNode;
  children: (field: {
    id: string;
    "aria-describedby": string;
    "aria-invalid": boolean;
  }) => ReactNode;
}

/** A control with its label, its help and what is wrong with it. */
export function Labelled({ label, help, problem, aside, children }: LabelledProps) {
  const id = useId();
  return (
    <div className="space-y-1.5">
      <div className="flex min-h-6 items-center justify-between gap-2">
        <span className="flex items-center gap-1">
          <label htmlFor={id} className="text-[13px] font-medium">
            {label}
          </label>
          {help && (
            <Tip text={help}>
              <button
                type="button"
                className="focus-ring rounded-full text-soft"
                aria-label={`About ${label}: ${help}`}
              >
                <CircleHelp className="size-3.5" aria-hidden />
              </button>
            </Tip>
          )}
        </span>
        {aside}
      </div>
      {children({ id, "aria-describedby": `${id}-note`, "aria-invalid": Boolean(problem) })}
      <p
        id={`${id}-note`}
        role={problem ? "alert" : undefined}
        className="text-xs text-bad empty:hidden"
      >
        {problem}
      </p>
    </div>
  );
}
