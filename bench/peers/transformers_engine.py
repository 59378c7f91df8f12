"""transformers in bfloat16, and in float32 as the oracle: on the file's dequantised weights."""

from pathlib import Path
from typing import Any

from bench.peers.divergence import from_logits
from bench.peers.engine import ChildSession, Question, Task, child_task
from bench.peers.place import Place

REQUIREMENTS = ("torch==2.13.0", "transformers==5.23.0", "gguf==0.19.0", "accelerate==1.15.0")


class Transformers:
    name = "transformers"
    about = "the file's weights dequantised to bf16, eager, static batches"
    has_own_oracle = False

    def set_up(self, place: Place) -> None:
        place.environment(REQUIREMENTS)

    def prepare(self, place: Place, task: Task) -> None:
        """It dequantises the file when it loads it."""

    def open(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "speed", "bfloat16")

    def open_oracle(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "logits", "float32")

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        session = self._session(place, task, "logits", "bfloat16")
        return from_logits(session, place, task, question)

    def _session(self, place: Place, task: Task, use: str, dtype: str) -> ChildSession:
        return ChildSession(
            place, place.python, "transformers_child", child_task(task, use) | {"dtype": dtype},
            {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip


def write_folder(place: Place, task: Task) -> Path:
    """A folder of bf16 safetensors, for engines that read no GGUF; `place` has transformers."""
    folder = place.folder / "models" / task.name

    def make() -> None:
        place.say("writing the weights as bf16")
        wanted = child_task(task, "export") | {"dtype": "bfloat16", "folder": str(folder)}
        ChildSession(place, place.python, "transformers_child", wanted).close()

    place.once(f"{task.name}.bf16", f"{task.model.name} {task.model.stat().st_size}", make)
    return folder
