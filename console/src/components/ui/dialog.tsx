import { Dialog } from "@base-ui/react/dialog";
import { X } from "lucide-react";
import type { ReactNode } from "react";
import { cn } from "@/components/cn";
import { IconButton } from "./button";

interface ModalProps {
  isOpen: boolean;
  onClose: () => void;
  title: string;
  /** A sentence under the title. */
  about?: string;
  /** Where it stands: in the middle, or along the right edge. */
  place?: "middle" | "side";
  className?: string;
  children: ReactNode;
}

/** A window over the page that keeps the focus until it is closed. */
export function Modal({
  isOpen,
  onClose,
  title,
  about,
  place = "middle",
  className,
  children,
}: ModalProps) {
  return (
    <Dialog.Root open={isOpen} onOpenChange={(open) => !open && onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="fixed inset-0 z-40 bg-black/40 backdrop-blur-[2px]" />
        <Dialog.Popup
          className={cn(
            "fixed z-40 flex flex-col bg-raised text-strong shadow-2xl outline-none",
            place === "middle"
              ? "inset-x-2 top-[6vh] mx-auto max-h-[88vh] max-w-2xl rounded-xl border border-line"
              : "inset-y-0 right-0 w-[min(24rem,100vw)] border-l border-line",
            className,
          )}
        >
          <header className="px-5 pt-4 pr-14 pb-3">
            <Dialog.Title className="text-base font-semibold">{title}</Dialog.Title>
            {about && (
              <Dialog.Description className="mt-0.5 text-sm text-soft">{about}</Dialog.Description>
            )}
          </header>
          <div className="min-h-0 flex-1 overflow-y-auto px-5 pb-5">{children}</div>
          {/* Last, so that what the window is for has the focus first. */}
          <div className="absolute top-3 right-3">
            <Dialog.Close
              render={
                <IconButton label="Close">
                  <X />
                </IconButton>
              }
            />
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
