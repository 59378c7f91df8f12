"""OpenVINO GenAI: reads the GGUF itself; its defaults are int8 activations and an int8 KV cache."""

from pathlib import Path
from typing import Any

from bench.peers.divergence import of_run_alone
from bench.peers.engine import ChildSession, Question, Task, child_task
from bench.peers.place import Place

REQUIREMENTS = ("openvino-genai==2026.4.1.0",)
FLOAT32 = {
    "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
}  # fmt: skip


class OpenVino:
    name = "OpenVINO GenAI"
    about = "the file's weights; continuous batching, defaults (int8 KV cache)"
    has_own_oracle = False

    def set_up(self, place: Place) -> None:
        place.environment(REQUIREMENTS)

    def prepare(self, place: Place, task: Task) -> None:
        """Beside the file it writes graphs: a folder of its own with a link to the file."""
        link = self._model(place, task)
        if link.is_symlink() and link.resolve() == task.model.resolve():
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(task.model.absolute())

    def open(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "speed")

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        def exact() -> ChildSession:
            return self._session(place, task, "logits", FLOAT32)

        session = self._session(place, task, "logits")
        return of_run_alone(session, exact, place, task, question)

    def _model(self, place: Place, task: Task) -> Path:
        return place.folder / "models" / task.name / f"{task.name}.gguf"

    def _session(
        self, place: Place, task: Task, use: str, settings: dict[str, str] | None = None
    ) -> ChildSession:
        self.prepare(place, task)
        changed = {"model": str(self._model(place, task)), "settings": settings or {}}
        return ChildSession(
            place, place.python, "openvino_child", child_task(task, use) | changed
        )
