import { ArrowUp, ImagePlus, Square, X } from "lucide-react";
import { type KeyboardEvent, useRef, useState } from "react";
import { Button, IconButton } from "@/components/ui/button";

interface ComposerProps {
  isRunning: boolean;
  takesImages: boolean;
  onSend: (text: string, images: string[]) => void;
  onStop: () => void;
}

const MAX_IMAGES = 8;
const MAX_IMAGE_BYTES = 10_000_000;

/** Where a person writes. Enter sends, Shift+Enter begins a line, Escape stops the answer. */
export function Composer({ isRunning, takesImages, onSend, onStop }: ComposerProps) {
  const [text, setText] = useState("");
  const [images, setImages] = useState<string[]>([]);
  const [note, setNote] = useState("");
  const picker = useRef<HTMLInputElement>(null);
  const send = () => {
    if (isRunning || (!text.trim() && !images.length)) return;
    onSend(text, images);
    setText("");
    setImages([]);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && isRunning) onStop();
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };
  const attach = async (files: Iterable<File>) => {
    const fit = [...files].filter(
      (file) => file.type.startsWith("image/") && file.size <= MAX_IMAGE_BYTES,
    );
    setNote(fit.length < [...files].length ? "Only images of at most 10 MB can be attached." : "");
    const urls = await Promise.all(fit.map(dataUrl));
    setImages((before) => [...before, ...urls].slice(0, MAX_IMAGES));
  };
  return (
    <form
      className="mx-auto w-full max-w-3xl px-4 pb-4"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="rounded-2xl border border-edge bg-raised p-2 shadow-xs focus-within:outline-2 focus-within:outline-accent">
        {images.length > 0 && <Attached images={images} onChange={setImages} />}
        <textarea
          aria-label="Message"
          className="block field-sizing-content max-h-60 min-h-10 w-full resize-none bg-transparent px-2 py-2 text-[15px] outline-none placeholder:text-soft"
          placeholder="Write a message"
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={onKeyDown}
          onPaste={(event) => takesImages && void attach(event.clipboardData.files)}
        />
        <div className="flex items-center gap-2">
          {takesImages && (
            <>
              <IconButton label="Attach images" onClick={() => picker.current?.click()}>
                <ImagePlus />
              </IconButton>
              <input
                ref={picker}
                type="file"
                accept="image/*"
                multiple
                hidden
                onChange={(event) => void attach(event.target.files ?? [])}
              />
            </>
          )}
          <p role="status" className="flex-1 text-xs text-bad">
            {note}
          </p>
          {isRunning ? (
            <Button size="icon" look="main" aria-label="Stop" onClick={onStop}>
              <Square className="fill-current" />
            </Button>
          ) : (
            <Button
              size="icon"
              look="main"
              type="submit"
              aria-label="Send"
              disabled={!text.trim() && !images.length}
            >
              <ArrowUp />
            </Button>
          )}
        </div>
      </div>
    </form>
  );
}

function Attached({
  images,
  onChange,
}: {
  images: string[];
  onChange: (images: string[]) => void;
}) {
  return (
    <ul className="flex flex-wrap gap-2 p-1">
      {images.map((url, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the same image may be there twice
        <li key={index} className="relative">
          <img
            src={url}
            alt={`attached ${index + 1}`}
            className="h-16 rounded-md border border-line"
          />
          <button
            type="button"
            className="focus-ring absolute -top-1.5 -right-1.5 rounded-full bg-strong p-0.5 text-page"
            aria-label={`Take image ${index + 1} away`}
            onClick={() => onChange(images.toSpliced(index, 1))}
          >
            <X className="size-3" />
          </button>
        </li>
      ))}
    </ul>
  );
}

function dataUrl(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
