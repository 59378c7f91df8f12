"""Labels written by a large model for a small one: several draws a row, kept where they agree.

Owns how draws are compared, the data set that comes of them and its manifest. The model is an
Asker, here or behind an API. Invariants: a row without enough agreement is left out with the
reason; what was labelled once is not asked again after a stop; the output appears by a rename.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.text.schema_check import checked_schema
from firefront.tuning.conversation import Message
from firefront.tuning.evaluation.ask import Answer, Asker, Question
from firefront.tuning.evaluation.schema import schema_problem
from firefront.tuning.facts import normal_json
from firefront.tuning.label_journal import Entry, LabelJournal
from firefront.tuning.line_files import replacing, write_manifest
from firefront.tuning.rows import ChatRow, RowReader, open_rows, parse_question

ROWS_AT_ONCE = 32
MAX_DRAWS = 32


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """`draws` answers a row at `temperature` (a single one is greedy), of which the share
    `agreement` must say the same. `instruction`: system text for the teacher, which the rows that
    come out do not have. `constraint`: what every answer must be, of kind json_schema or choice."""

    draws: int = 3
    agreement: float = 0.66
    temperature: float = 0.7
    max_tokens: int = 256
    instruction: str | None = None
    constraint: Constraint | None = None
    seed: int = 0

    def checked(self) -> "LabelConfig":
        """Itself; RequestError names the field at fault."""
        if not 1 <= self.draws <= MAX_DRAWS:
            raise RequestError(f"draws: must be from 1 to {MAX_DRAWS}", param="draws")
        if not 0 < self.agreement <= 1:
            raise RequestError("agreement: must be over 0, at most 1", param="agreement")
        if not 0 <= self.seed < 2**31:
            raise RequestError("seed: must be from 0 to 2147483647", param="seed")
        if not 0 <= self.temperature <= 2:
            raise RequestError("temperature: must be from 0 to 2", param="temperature")
        if self.constraint is not None and self.constraint.kind == "json_schema":
            checked_schema(self.constraint.value, "schema")
        return self


def label(
    path: Path,
    out: Path,
    teacher: Asker,
    config: LabelConfig,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write to `out` the rows of `path` with the teacher's answers; the manifest, which is beside.

    `on_progress` is told, first and after each answer, how many are there and how many there will
    be. An answer that `path` has itself is not looked at. RequestError if not one row could be
    labelled.
    """
    rows, reader, sha256 = _questions(path)
    head = {
        "input": {"name": path.name, "sha256": sha256},
        "teacher": teacher.name,
        "settings": msgspec.to_builtins(config.checked()),
    }
    journal = LabelJournal(out.with_name(f"{out.name}.labels"), head)
    try:
        waiting = [row for row in rows if row.line not in journal.entries]
        num_done, total = len(journal.entries) * config.draws, len(rows) * config.draws
        on_progress(num_done, total)

        def on_done() -> None:
            nonlocal num_done
            num_done += 1
            on_progress(num_done, total)

        queue = iter(waiting)
        while batch := list(islice(queue, ROWS_AT_ONCE)):
            questions = [q for row in batch for q in _draws(row, config)]
            answers = iter(teacher.ask(questions, on_done))
            journal.add(
                _entry(row, list(islice(answers, config.draws)), config) for row in batch
            )
        record = {**head, **_write(rows, journal.entries, out)}
        record["invalid"] = [
            {"line": problem.line, "why": problem.message} for problem in reader.problems.kept
        ]
        write_manifest(out, record)
        journal.remove()
        return record
    finally:
        journal.close()


def _questions(path: Path) -> tuple[list[ChatRow], RowReader, str]:
    with open_rows(path) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        reader = RowReader(stream, path.name, parse_question)
        rows = [row for row in reader if isinstance(row, ChatRow)]
    if not rows:
        raise RequestError(f"{path.name}: has no row to label\n{reader.problems.text()}")
    return rows, reader, sha256


def _draws(row: ChatRow, config: LabelConfig) -> Iterator[Question]:
    messages = row.messages
    if config.instruction is not None:
        system = {"role": "system", "content": config.instruction}
        messages = [system, *(m for m in messages if m["role"] != "system")]
    for draw in range(config.draws):
        yield Question(
            messages=messages,
            tools=row.tools,
            max_tokens=config.max_tokens,
            constraint=config.constraint,
            temperature=config.temperature if config.draws > 1 else 0.0,
            seed=(config.seed * 1_000_003 + row.line) * MAX_DRAWS + draw,
        )


def _entry(row: ChatRow, answers: Sequence[Answer], config: LabelConfig) -> Entry:
    """What the draws of a row come to: a message, or why there is none."""
    entry: Entry = {
        "line": row.line,
        "message": None,
        "share": 0.0,
        "why": None,
        "num_prompt": sum(answer.num_prompt for answer in answers),
        "num_output": sum(answer.num_output for answer in answers),
    }
    problems = [_problem(answer, config.constraint) for answer in answers]
    said = [
        (_key(answer), answer)
        for answer, problem in zip(answers, problems, strict=True)
        if problem is None
    ]
    counts = Counter(key for key, _ in said)
    if not counts:
        entry["why"] = f"no draw is an answer: {next(p for p in problems if p)}"
        return entry
    key, num = counts.most_common(1)[0]
    entry["share"] = num / len(answers)
    if entry["share"] < config.agreement:
        entry["why"] = f"{num} of {len(answers)} draws agree"
        return entry
    entry["message"] = _message(next(answer for own, answer in said if own == key))
    return entry


def _problem(answer: Answer, constraint: Constraint | None) -> str | None:
    """Why an answer is none."""
    if answer.error is not None:
        return answer.error[:200]
    if answer.is_cut:
        return "it did not end within max_tokens"
    if answer.num_unread:
        return "the arguments of a call are no JSON object"
    if not answer.text.strip() and not answer.calls:
        return "it is empty"
    if constraint is None or answer.calls:
        return None
    if constraint.kind == "choice":
        return None if answer.text.strip() in constraint.value else "it is none of the choices"
    try:
        value = json.loads(answer.text)
    except (ValueError, RecursionError):
        return "it is no JSON"
    return schema_problem(value, constraint.value)


def _key(answer: Answer) -> str:
    """Equal for answers that say the same, in whatever order they make their calls."""
    calls = sorted(
        json.dumps([call.name, normal_json(json.dumps(call.arguments))]) for call in answer.calls
    )
    return json.dumps([normal_json(answer.text), calls])


def _message(answer: Answer) -> Message:
    text = answer.text.strip()
    message: Message = {"role": "assistant", "content": text or None}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{i}",
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(call.arguments, ensure_ascii=False),
                },
            }
            for i, call in enumerate(answer.calls)
        ]
    return message


def _write(rows: Sequence[ChatRow], entries: dict[int, Entry], out: Path) -> dict[str, Any]:
    """The labelled rows as a file, and the part of the manifest that says what came of which."""
    digest, num_rows, num_bytes = hashlib.sha256(), 0, 0
    dropped = []
    with replacing(out) as file:
        for row in rows:
            entry = entries[row.line]
            if entry["message"] is None:
                dropped.append({"line": row.line, "why": entry["why"], "share": entry["share"]})
                continue
            value: dict[str, Any] = {"messages": [*row.messages, entry["message"]]}
            if row.tools:
                value["tools"] = row.tools
            data = json.dumps(value, ensure_ascii=False).encode() + b"\n"
            file.write(data)
            digest.update(data)
            num_rows += 1
            num_bytes += len(data)
        if num_rows == 0:
            why = Counter(entry["why"] for entry in dropped).most_common(1)[0][0]
            raise RequestError(f"{out.name}: not one of {len(rows)} rows has a label ({why})")
    done = [entries[row.line] for row in rows]
    return {
        "output": {
            "name": out.name, "sha256": digest.hexdigest(), "num_bytes": num_bytes,
            "num_rows": num_rows,
        },
        "rows": {"read": len(rows), "labelled": num_rows, "dropped": len(dropped)},
        "mean_agreement": round(sum(entry["share"] for entry in done) / len(done), 4),
        "tokens": {
            "prompt": sum(entry["num_prompt"] for entry in done),
            "output": sum(entry["num_output"] for entry in done),
        },
        "dropped": dropped,
    }  # fmt: skip
