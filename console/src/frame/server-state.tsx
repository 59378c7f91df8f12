import { CloudOff, LoaderCircle } from "lucide-react";
import { asProblem } from "@/api/errors";
import { useModels } from "@/api/models";

/** A line above the room while the server cannot be used, with what to do about it. */
export function ServerState() {
  const { data, error } = useModels();
  if (error) {
    const problem = asProblem(error);
    if (problem.status === 401) return null; // the key is asked for
    return (
      <div role="alert" className="flex items-center gap-2 bg-bad-soft px-4 py-2 text-sm text-bad">
        <CloudOff className="size-4 shrink-0" aria-hidden />
        <span>
          {problem.message} {problem.advice} Trying again every two seconds.
        </span>
      </div>
    );
  }
  const loading = data?.filter((model) => model.max_model_len === null) ?? [];
  if (!loading.length) return null;
  return (
    <div role="status" className="flex items-center gap-2 bg-accent-soft px-4 py-2 text-sm">
      <LoaderCircle className="size-4 shrink-0 animate-spin" aria-hidden />
      <span>
        Loading {loading.map((model) => model.id).join(", ")}. Requests are answered as soon as it
        is there.
      </span>
    </div>
  );
}
