import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { apiKey, setApiKey } from "@/api/client";
import { Button } from "@/components/ui/button";
import { Modal } from "@/components/ui/dialog";

interface KeyDialogProps {
  isOpen: boolean;
  /** The server has refused a request for want of a key. */
  isWanted: boolean;
  onClose: () => void;
}

/** Asks for the key that requests carry. */
export function KeyDialog({ isOpen, isWanted, onClose }: KeyDialogProps) {
  const queries = useQueryClient();
  const [key, setKey] = useState("");
  const keep = (event: FormEvent) => {
    event.preventDefault();
    setApiKey(key.trim());
    setKey("");
    onClose();
    void queries.invalidateQueries();
  };
  const about = isWanted
    ? "This server answers only with a key. Whoever runs it makes one with: firefront keys create"
    : "Needed only where the server asks for one.";
  return (
    <Modal isOpen={isOpen} onClose={onClose} title="Key" about={about} className="max-w-md!">
      <form onSubmit={keep} className="space-y-3">
        <label className="block text-sm font-medium" htmlFor="key">
          API key
        </label>
        <input
          id="key"
          type="password"
          autoComplete="off"
          spellCheck={false}
          className="field font-mono"
          placeholder={apiKey() ? "a key is set; type another" : "ff-…"}
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
        <p className="text-xs text-soft">
          Kept in this tab until it is closed, sent to this server alone, never part of a shared
          link or of code.
        </p>
        <div className="flex justify-end gap-2">
          {apiKey() && (
            <Button
              onClick={() => {
                setApiKey("");
                onClose();
              }}
            >
              Forget it
            </Button>
          )}
          <Button type="submit" look="main" disabled={!key.trim()}>
            Use this key
          </Button>
        </div>
      </form>
    </Modal>
  );
}
