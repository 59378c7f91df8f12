"""Divergence from float32 of every engine, with transformers in float32 as the oracle."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.peers.divergence import CHUNK, FIRST
from bench.peers.engine import Engine, EngineFailed, Question, Task
from bench.peers.place import CannotSetUp, Place
from bench.peers.progress import Progress
from bench.peers.transformers_engine import Transformers
from firefront.text.tokenizer import load_tokenizer

Say = Callable[[str], None]


def read_text(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return str(file.read())


def chunks_of(text: str, model: Path, count: int) -> list[list[int]]:
    """The first `count` chunks of CHUNK tokens; ValueError if the text has fewer."""
    tokens = load_tokenizer(model).encode(text[: count * CHUNK * 16])
    if len(tokens) < count * CHUNK:
        raise ValueError(f"the text has {len(tokens)} tokens, {count * CHUNK} are wanted")
    return [tokens[start : start + CHUNK] for start in range(0, count * CHUNK, CHUNK)]


def divergences(
    engines: dict[str, Engine],
    places: dict[str, Place],
    tools: Place,
    task: Task,
    text_path: Path,
    count: int,
    say: Say,
    progress: Progress,
) -> None:
    """Records for each engine `kl`, `top1` and what else it gives, or `absent` with the reason."""
    engines = {name: e for name, e in engines.items() if name not in progress.divergence}
    if not engines:
        return
    text = read_text(text_path)
    chunks = chunks_of(text, task.model, count)
    with tempfile.TemporaryDirectory(dir=tools.folder) as name:
        folder = Path(name)
        question = Question(chunks, folder / "text.txt", folder / "oracle", tools.python)
        question.text.write_text(text, encoding="utf-8")
        oracle_absent = None
        if not all(engine.has_own_oracle for engine in engines.values()):
            place = Place(tools.root, "transformers", say)
            oracle_absent = _write_oracle(place, task, question, say)
        for engine_name, engine in engines.items():
            say(f"{engine_name}: divergence from float32")
            if oracle_absent and not engine.has_own_oracle:
                found: dict[str, Any] = {"absent": oracle_absent}
            else:
                try:
                    found = engine.divergence(places[engine_name], task, question)
                except (EngineFailed, CannotSetUp) as error:
                    found = {"absent": str(error)}
            say(f"  {found}")
            progress.diverged(engine_name, found)


def _write_oracle(place: Place, task: Task, question: Question, say: Say) -> str | None:
    """The oracle's logits, or why there are none."""
    say("transformers in float32: the oracle's logits")
    oracle = Transformers()
    try:
        oracle.set_up(place)
        session = oracle.open_oracle(place, task)
        try:
            session.write_logits(question.chunks, FIRST, question.oracle)
        finally:
            session.close()
    except (EngineFailed, CannotSetUp) as error:
        return f"no oracle: {error}"
    return None
