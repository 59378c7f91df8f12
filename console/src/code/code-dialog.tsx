import { Tabs } from "@base-ui/react/tabs";
import { useState } from "react";
import { apiKey } from "@/api/client";
import { useModels } from "@/api/models";
import { CodeBlock } from "@/components/code-block";
import { Modal } from "@/components/ui/dialog";
import { SettingsError } from "@/playground/request";
import { KEY_VARIABLE, type Printable, type Program } from "./program";
import { programsOf } from "./programs";

interface CodeDialogProps {
  /** Makes the request as it stands; may throw a SettingsError. */
  request: () => Printable;
  onClose: () => void;
}

/** The request as a program, ready to run. */
export default function CodeDialog({ request, onClose }: CodeDialogProps) {
  const { data: models } = useModels();
  const [streams, setStreams] = useState(false);
  const needsKey = apiKey() !== null;
  let programs: Program[] = [];
  let problem = "";
  try {
    const printable = request();
    const contextLen = models?.find(({ id }) => id === printable.body.model)?.max_model_len ?? null;
    programs = programsOf(printable, { origin: location.origin, needsKey, streams, contextLen });
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    problem = error.message;
  }
  return (
    <Modal
      isOpen
      onClose={onClose}
      title="Get the code"
      about="The request as it stands, ready to run."
      className="max-w-3xl!"
    >
      {problem && (
        <p role="alert" className="text-sm text-bad">
          {problem}
        </p>
      )}
      {programs.length > 0 && (
        <Tabs.Root defaultValue="Python">
          <div className="flex flex-wrap items-center justify-between gap-3">
            <Tabs.List className="flex flex-wrap gap-1" aria-label="Language">
              {programs.map(({ name }) => (
                <Tabs.Tab
                  key={name}
                  value={name}
                  className="focus-ring rounded-lg px-3 py-1.5 text-sm text-soft hover:bg-hover data-[active]:bg-accent-soft data-[active]:text-strong"
                >
                  {name}
                </Tabs.Tab>
              ))}
            </Tabs.List>
            <label className="flex items-center gap-2 text-sm">
              <input
                type="checkbox"
                className="focus-ring size-4 accent-accent"
                checked={streams}
                onChange={(event) => setStreams(event.target.checked)}
              />
              Stream
            </label>
          </div>
          {programs.map((program) => (
            <Tabs.Panel key={program.name} value={program.name} className="focus-ring">
              <ProgramView program={program} needsKey={needsKey} />
            </Tabs.Panel>
          ))}
        </Tabs.Root>
      )}
    </Modal>
  );
}

function ProgramView({ program, needsKey }: { program: Program; needsKey: boolean }) {
  return (
    <>
      <CodeBlock code={program.code} language={program.language} />
      <ul className="space-y-1 text-xs text-soft">
        {program.install && (
          <li>
            Needs <code>{program.install}</code>.
          </li>
        )}
        {needsKey && (
          <li>
            Reads the key from the environment: <code>export {KEY_VARIABLE}=…</code>
          </li>
        )}
        {program.missing.length > 0 && (
          <li>
            This API has no word for {program.missing.join(", ")}: answers may differ from those
            here.
          </li>
        )}
      </ul>
    </>
  );
}
