"""ONNX Runtime GenAI: its model builder rounds the weights to int4 again, by its own defaults."""

from typing import Any

from bench.peers.divergence import from_logits
from bench.peers.engine import ChildSession, Question, Task, child_task
from bench.peers.place import Place
from bench.peers.transformers_engine import write_folder

REQUIREMENTS = (
    "onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "onnx==1.23.2", "onnx-ir==1.1.0",
    "torch==2.13.0", "transformers==5.23.0", "gguf==0.19.0", "accelerate==1.15.0",
)  # fmt: skip


class OnnxRuntime:
    name = "ONNX Runtime GenAI"
    about = "the file's weights rounded again, to int4 by its model builder; static batches"
    has_own_oracle = False

    def set_up(self, place: Place) -> None:
        place.environment(REQUIREMENTS)

    def prepare(self, place: Place, task: Task) -> None:
        """It reads no GGUF: weights as bf16, then its own format."""
        source = write_folder(place, task)

        def make() -> None:
            place.say("building the int4 model")
            builder = [place.python, "-m", "onnxruntime_genai.models.builder", "-m", task.name]
            to = ["-o", source.with_suffix(".int4"), "-c", place.folder / "cache"]
            place.run("convert", [*builder, "-i", source, *to, "-p", "int4", "-e", "cpu"])

        place.once(f"{task.name}.int4", f"{task.model.name} {task.model.stat().st_size}", make)

    def open(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "speed")

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        self.prepare(place, task)
        return from_logits(self._session(place, task, "logits"), place, task, question)

    def _session(self, place: Place, task: Task, use: str) -> ChildSession:
        folder = write_folder(place, task).with_suffix(".int4")
        wanted = child_task(task, use) | {"model": str(folder)}
        return ChildSession(place, place.python, "onnx_child", wanted)
