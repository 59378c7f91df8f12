"""Ours, in a child process like every other: with its defaults, and with each set of options."""

import sys
from pathlib import Path
from typing import Any

from bench.peers.divergence import from_logits
from bench.peers.engine import ChildSession, Question, Task, child_task
from bench.peers.place import Place

BENCH = Path(__file__).parents[1]
PLAIN = {"speculation": "off"}


class Firefront:
    """`options` are deployment fields, such as {"kv_dtype": "f32"}.

    Speculation is off unless they say otherwise: random prompts end in loops, which it guesses.
    """

    has_own_oracle = False

    def __init__(self, name: str = "firefront", options: dict[str, str] | None = None) -> None:
        self.name = name
        self._options = PLAIN | (options or {})
        chosen = ", ".join(f"{key}={value}" for key, value in self._options.items())
        self.about = f"the file's weights; defaults but {chosen}"

    def set_up(self, place: Place) -> None:
        """It runs in the environment that the bench runs in."""

    def prepare(self, place: Place, task: Task) -> None:
        """It reads the file itself."""

    def open(self, place: Place, task: Task) -> ChildSession:
        return self._session(place, task, "speed")

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        return from_logits(self._session(place, task, "logits"), place, task, question)

    def _session(self, place: Place, task: Task, use: str) -> ChildSession:
        wanted = child_task(task, use) | {"options": self._options}
        env = {"PYTHONPATH": str(BENCH)}
        return ChildSession(place, Path(sys.executable), "firefront_child", wanted, env)


def parse_variant(text: str) -> Firefront:
    """`NAME:key=value,key=value` to another arm of ours."""
    name, colon, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",")]
    if not name or not colon or not all(key and equals for key, equals, _ in pairs):
        raise ValueError(f"{text}: write NAME:key=value,key=value")
    return Firefront(f"firefront {name}", {key.strip(): value for key, _, value in pairs})
