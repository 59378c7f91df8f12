"""Chat rows for tests, and files of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def chat(question: str, answer: str, system: str | None = None) -> Row:
    """One question and its answer."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    first = [{"role": "system", "content": system}] if system is not None else []
    return {"messages": [*first, *messages]}


def preference(question: str, preferred: str, rejected: str) -> Row:
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": rejected}],
    }


def write(path: Path, rows: Iterable[Row | bytes]) -> Path:
    """Rows as JSON, bytes as they are, a line each."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def labelled(labels: Sequence[str], num: int) -> list[Row]:
    """`num` rows of questions that are nothing like each other, the labels in turn."""
    words = ["river", "copper", "window", "garden", "thunder", "pepper", "violet", "market"]
    rows = []
    for i in range(num):
        parts = (words[(i * k + i // 8 + k) % 8] + str(i * k * 7919) for k in range(1, 7))
        question = " ".join(parts)
        rows.append(chat(question, labels[i % len(labels)]))
    return rows
