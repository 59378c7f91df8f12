import { Popover } from "@base-ui/react/popover";
import { Check, ChevronDown, CornerDownRight } from "lucide-react";
import { useEffect, useState } from "react";
import { type Model, useModels } from "@/api/models";
import { cn } from "@/components/cn";
import { bytes, dollars, short } from "@/components/format";

interface ModelPickerProps {
  chosen: string;
  onChoose: (id: string) => void;
}

/** The model that is talked to; opens the cards of all that the server runs, adapters under their base. */
export function ModelPicker({ chosen, onChoose }: ModelPickerProps) {
  const { data: models = [] } = useModels();
  const [isOpen, setOpen] = useState(false);
  const first = models[0]?.id;
  const isThere = models.some((model) => model.id === chosen);
  useEffect(() => {
    if (!chosen && first) onChoose(first);
  }, [chosen, first, onChoose]);
  const choose = (id: string) => {
    onChoose(id);
    setOpen(false);
  };
  return (
    <Popover.Root open={isOpen} onOpenChange={setOpen}>
      <Popover.Trigger
        className="focus-ring flex h-9 min-w-0 items-center gap-2 rounded-lg border border-line bg-raised px-3 text-sm font-medium hover:bg-hover"
        aria-label={`Model: ${chosen || "none"}`}
      >
        <span className="truncate">{chosen || "Choose a model"}</span>
        {chosen && models.length > 0 && !isThere && (
          <span className="text-xs text-bad">not served here</span>
        )}
        <ChevronDown className="size-4 shrink-0 text-soft" aria-hidden />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Positioner sideOffset={6} align="start" className="z-30">
          <Popover.Popup className="max-h-[70vh] w-[min(26rem,calc(100vw-1rem))] overflow-y-auto rounded-xl border border-line bg-raised p-1.5 shadow-xl outline-none">
            <Popover.Title className="sr-only">Models</Popover.Title>
            {models.length === 0 && (
              <p className="p-3 text-sm text-soft">The server lists no model.</p>
            )}
            <ul>
              {inOrder(models).map((model) => (
                <li key={model.id}>
                  <ModelCard model={model} isChosen={model.id === chosen} onChoose={choose} />
                </li>
              ))}
            </ul>
          </Popover.Popup>
        </Popover.Positioner>
      </Popover.Portal>
    </Popover.Root>
  );
}

interface ModelCardProps {
  model: Model;
  isChosen: boolean;
  onChoose: (id: string) => void;
}

function ModelCard({ model, isChosen, onChoose }: ModelCardProps) {
  return (
    <button
      type="button"
      aria-pressed={isChosen}
      onClick={() => onChoose(model.id)}
      className={cn(
        "focus-ring flex w-full gap-3 rounded-lg p-2.5 text-left hover:bg-hover",
        model.parent && "pl-4",
      )}
    >
      {model.parent && <CornerDownRight className="mt-0.5 size-4 shrink-0 text-soft" aria-hidden />}
      <span className="min-w-0 flex-1">
        <span className="block truncate text-sm font-medium">{model.id}</span>
        <span className="mt-0.5 block text-xs text-soft">{factsOf(model).join(" · ")}</span>
      </span>
      {isChosen && <Check className="size-4 shrink-0 text-accent" aria-hidden />}
    </button>
  );
}

/** What is known of a model, in a few words each. */
export function factsOf(model: Model): string[] {
  const facts: string[] = [];
  if (model.parent) facts.push(`adapter on ${model.parent}`);
  if (model.adapter) facts.push(`rank ${model.adapter.rank}`);
  if (model.max_model_len === null) facts.push("loading");
  if (model.num_parameters) facts.push(`${short(model.num_parameters)} parameters`);
  if (model.weight_bytes) facts.push(bytes(model.weight_bytes));
  if (model.format) facts.push(model.format);
  if (model.max_model_len) facts.push(`context ${short(model.max_model_len)}`);
  if (model.has_chat_template === false) facts.push("completes texts, knows no chat");
  if (model.pricing) {
    const million = (price: string) => dollars(Number(price) * 1e6);
    facts.push(
      `${million(model.pricing.prompt)} in, ${million(model.pricing.completion)} out per million tokens`,
    );
  }
  return facts;
}

/** Each base model with its adapters behind it. */
function inOrder(models: readonly Model[]): Model[] {
  const bases = models.filter(({ parent }) => !models.some(({ id }) => id === parent));
  return bases.flatMap((base) => [base, ...models.filter(({ parent }) => parent === base.id)]);
}
