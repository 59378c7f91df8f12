"""OpenVINO GenAI: reads the GGUF itself; its defaults are int8 activations and an int8 KV cache."""

from pathlib import Path
from typing import Any

from bench.peers.divergence import from_logits
from bench.peers.engine import ChildSession, Question, Task, child_task
from bench.peers.place import Place

REQUIREMENTS = ("openvino-genai==2026.4.1.0",)


class OpenVino:
    name = "OpenVINO GenAI"
    about = "the file's weights; continuous batching, defaults (int8 KV cache)"
    has_own_oracle = False

    def set_up(self, place: Place) -> None:
        place.environment(REQUIREMENTS)

    def prepare(self, place: Place, task: Task) -> None:
        """Beside the file it writes graphs: a folder of its own with a link to the file."""
        link = self._model(place, task)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(task.model.absolute())

    def open(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "speed")

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        return from_logits(self._session(place, task, "logits"), place, task, question)

    def _model(self, place: Place, task: Task) -> Path:
        return place.folder / "models" / task.name / f"{task.name}.gguf"

    def _session(self, place: Place, task: Task, use: str) -> ChildSession:
        wanted = child_task(task, use) | {"model": str(self._model(place, task))}
        return ChildSession(place, place.python, "openvino_child", wanted)
