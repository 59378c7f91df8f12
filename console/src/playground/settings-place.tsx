import { Modal } from "@/components/ui/dialog";
import { useIsWide } from "@/frame/width";
import type { Lane } from "./lane";
import { SettingsPanel } from "./settings-panel";

interface SettingsPlaceProps {
  lane: Lane;
  isCompletion?: boolean;
  isOpen: boolean;
  onClose: () => void;
}

/** Where a lane's settings are: beside it, or where there is no room, in a window over it. */
export function SettingsPlace({ lane, isCompletion, isOpen, onClose }: SettingsPlaceProps) {
  const panel = <SettingsPanel lane={lane} isCompletion={isCompletion} />;
  if (useIsWide()) {
    return (
      <aside
        aria-label="Settings"
        className="w-80 shrink-0 overflow-y-auto border-l border-line bg-raised p-4"
      >
        {panel}
      </aside>
    );
  }
  return (
    <Modal isOpen={isOpen} onClose={onClose} title="Settings" place="side">
      {panel}
    </Modal>
  );
}
