"""Rows to learn from, read from JSONL: OpenAI's chat and preference formats, prompt and completion.

Owns the row types, the limits of a file and the collecting of problems; `conversation` knows what a
message may be. Invariants: a file is read once and line by line; each line that is not blank is
either a row or a problem with its line number.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from firefront.core.errors import RequestError
from firefront.core.strict_json import parse_object
from firefront.core.tools import read_tools
from firefront.tuning.conversation import (
    KNOWN,
    Message,
    check_ending,
    check_order,
    read_messages,
)

MAX_LINE_BYTES = 4 << 20
MAX_ROWS = 3_000_000
MAX_KEPT = 10_000  # problems that are kept one by one; beyond they are counted
_MAX_KINDS = 1000  # that are counted apart; a file may make up any number
MAX_SHOWN = 10
_CHAT, _PAIR = frozenset({"messages"}), frozenset({"prompt", "completion"})
_PREFERENCE = frozenset({"input", "preferred_output", "non_preferred_output"})
_BESIDES = frozenset({"tools", "functions", "parallel_tool_calls"})
_NUMBER = re.compile(r"\[\d+\]")
_NOT_JSONL = {
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"\x1f\x8b": "is compressed; unpack it with gunzip",
    b"PK\x03\x04": "is a ZIP archive; unpack it",
    b"PAR1": "is Parquet; write it as JSONL, one object a line",
}


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A conversation whose assistant messages are learned; one with `weight` 0 is not."""

    line: int
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A conversation and two ways to go on with it, one of them preferred."""

    line: int
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    preferred: list[Message]
    rejected: list[Message]


Row = ChatRow | PreferenceRow


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line is no row."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@dataclass
class Problems:
    """All that is wrong with a file: the first `MAX_KEPT` one by one, and how many of which kind
    (the message with the places of lists left out)."""

    kept: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, problem: Problem) -> None:
        if len(self.kept) < MAX_KEPT:
            self.kept.append(problem)
        _count(self.counts, kind_of(problem.message))

    @property
    def total(self) -> int:
        return self.counts.total()

    def text(self, num_shown: int = MAX_SHOWN) -> str:
        """One line each for the first, then how often what happened."""
        shown = [str(problem) for problem in self.kept[:num_shown]]
        if self.total > len(shown):
            shown.append(f"and {self.total - len(shown)} more; by kind:")
            shown += [f"{num} x {kind}" for kind, num in self.counts.most_common(num_shown)]
        return "\n".join(f"  {line}" for line in shown)

    def refusal(self, name: str, num_rows: int) -> str:
        """Why the file `name` is refused, which has so many rows besides."""
        bad = self.total
        return f"{name}: {bad} of {num_rows + bad} rows cannot be used\n{self.text()}"


def kind_of(message: str) -> str:
    """`message` without the places of lists, so that equal problems can be counted."""
    return _NUMBER.sub("[]", message)[:200]


def _count(counts: Counter[str], kind: str) -> None:
    counts[kind if kind in counts or len(counts) < _MAX_KINDS else "others"] += 1


class RowsError(RequestError):
    """A file with lines that are no rows."""

    def __init__(self, name: str, num_rows: int, problems: Problems) -> None:
        super().__init__(problems.refusal(name, num_rows), param="training_file")
        self.problems = problems


class RowReader:
    """Goes through the rows of `stream` once; `name` is what errors call it.

    While it goes on: `num_rows` and `problems` so far, `ignored` fields that change nothing and how
    often they came.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        parse: "Callable[[dict[str, Any], int], Row] | None" = None,
    ) -> None:
        self._stream = stream
        self._name = name
        self._parse = parse or parse_row
        self._kind: type[Row] | None = None
        self.num_rows = 0
        self.problems = Problems()
        self.ignored: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Row]:
        for number, data in read_lines(self._stream, self._name):
            try:
                row = self._row(number, data)
            except RequestError as error:
                self.problems.add(Problem(number, error.message))
                continue
            self.num_rows += 1
            yield row

    def _row(self, number: int, data: bytes | None) -> Row:
        if data is None:
            raise RequestError(f"is longer than {MAX_LINE_BYTES >> 20} MiB")
        value = parse_object(data, "the line")
        row = self._parse(value, number)
        self._kind = self._kind or type(row)
        if type(row) is not self._kind:
            raise RequestError(
                f"is a {_NAMES[type(row)]} row in a file of {_NAMES[self._kind]} rows; split them"
            )
        for name in _ignored(value):
            _count(self.ignored, name)
        return row


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; RowsError if there are none or a line is none."""
    with open_rows(path) as stream:
        reader = RowReader(stream, path.name)
        rows = list(reader)
    if reader.problems.total or not rows:
        raise RowsError(path.name, len(rows), reader.problems)
    return rows


def open_rows(path: Path) -> BufferedReader:
    """The file, to be read; RequestError if it cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}", param="training_file") from None


def read_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes | None]]:
    """Number (from 1) and content of each line that is not blank; None for one that is too long.

    A byte order mark and ends of lines are left out. RequestError for a file of another kind or
    with more than `MAX_ROWS` lines.
    """
    num_rows = 0
    for number, line in enumerate(_raw_lines(stream), start=1):
        if number == 1 and line is not None:
            line = line.removeprefix(b"\xef\xbb\xbf")
            for magic, problem in _NOT_JSONL.items():
                if line.startswith(magic):
                    raise RequestError(f"{name}: {problem}", param="training_file")
        if line is not None and not line.strip():
            continue
        if num_rows == 0 and line is not None and line.lstrip().startswith(b"["):
            problem = "is one JSON array; write one object a line instead (JSONL)"
            raise RequestError(f"{name}: {problem}", param="training_file")
        num_rows += 1
        if num_rows > MAX_ROWS:
            raise RequestError(f"{name}: has over {MAX_ROWS} rows", param="training_file")
        yield number, line


def parse_row(value: dict[str, Any], line: int) -> Row:
    """The row that a line's object is; RequestError names the field at fault."""
    keys = value.keys()
    if "messages" in keys:
        return _chat_row(value, line)
    if keys & _PREFERENCE:
        return _preference_row(value, line)
    if _PAIR <= keys:
        return _pair_row(value, line)
    found = ", ".join(sorted(repr(key[:40]) for key in keys)[:8]) or "nothing"
    raise RequestError(
        "needs messages; or input, preferred_output and non_preferred_output; or prompt and "
        f"completion; has {found}"
    )


def parse_question(value: dict[str, Any], line: int) -> ChatRow:
    """A conversation that waits for an answer; an answer that is there already is left out."""
    if "messages" not in value and "prompt" not in value:
        raise RequestError("needs messages or prompt")
    tools, names = _tools(value, "")
    if "messages" in value:
        messages = read_messages(value["messages"], "messages", names)
    else:
        messages = _turns(value["prompt"], "prompt", "user", names)
    check_order(messages, "messages")
    if messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages or messages[-1]["role"] not in ("user", "tool"):
        raise RequestError("messages: hold no question: the last before the answer must be user")
    return ChatRow(line, messages, tools)


def _chat_row(value: dict[str, Any], line: int) -> ChatRow:
    tools, names = _tools(value, "")
    messages = read_messages(value["messages"], "messages", names)
    check_order(messages, "messages")
    check_ending(messages, "messages")
    return ChatRow(line, messages, tools)


def _pair_row(value: dict[str, Any], line: int) -> ChatRow:
    """Only the completion is learned, whatever assistant messages the prompt has."""
    tools, names = _tools(value, "")
    prompt = _turns(value["prompt"], "prompt", "user", names)
    completion = _turns(value["completion"], "completion", "assistant", names)
    for message in prompt:
        if message["role"] == "assistant":
            message["weight"] = 0
    check_order(prompt, "prompt")
    check_order(completion, "completion", prompt)
    check_ending(completion, "completion", prompt)
    return ChatRow(line, [*prompt, *completion], tools)


def _turns(value: Any, where: str, role: str, names: set[str] | None) -> list[Message]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return read_messages(value, where, names)


def _preference_row(value: dict[str, Any], line: int) -> PreferenceRow:
    given = value.get("input")
    if not isinstance(given, dict):
        raise RequestError("input: must be {messages: [...]}", param="input")
    tools, names = _tools(given, "input.")
    messages = read_messages(given.get("messages"), "input.messages", names)
    check_order(messages, "input.messages")
    outputs = []
    for name in ("preferred_output", "non_preferred_output"):
        output = read_messages(value.get(name), name, names)
        check_order(output, name, messages)
        if any(message["role"] not in ("assistant", "tool") for message in output):
            raise RequestError(f"{name}: may hold assistant and tool messages only", param=name)
        check_ending(output, name, messages)
        outputs.append(output)
    if outputs[0] == outputs[1]:
        raise RequestError("non_preferred_output: is the same as preferred_output")
    return PreferenceRow(line, messages, tools, *outputs)


def _tools(
    value: dict[str, Any], prefix: str
) -> tuple[list[dict[str, Any]] | None, set[str] | None]:
    """The tools as they are given (the older `functions` as tools), and their names."""
    tools = value.get("tools")
    if not tools and (functions := value.get("functions")):
        if not isinstance(functions, list):
            raise RequestError(f"{prefix}functions: must be a list")
        tools = [{"type": "function", "function": function} for function in functions]
    if tools is None or tools == []:
        return None, None
    if not isinstance(tools, list):
        raise RequestError(f"{prefix}tools: must be a list", param=f"{prefix}tools")
    return tools, {tool.name for tool in read_tools(tools, f"{prefix}tools")}


def _ignored(value: dict[str, Any]) -> Iterator[str]:
    """Fields of a row and of its messages that change nothing."""
    yield from value.keys() - _CHAT - _PAIR - _PREFERENCE - _BESIDES
    messages = value.get("messages")
    if isinstance(messages, list):
        for message in messages:
            yield from (f"messages[].{name}" for name in message.keys() - KNOWN)


def _raw_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines without their ends; None for one of more than MAX_LINE_BYTES, which is skipped."""
    most = MAX_LINE_BYTES + 2  # with its end
    while line := stream.readline(most):
        more = line
        while len(more) == most and not more.endswith(b"\n"):
            more = stream.readline(most)
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        yield content if more is line and len(content) <= MAX_LINE_BYTES else None


_NAMES: dict[type[Row], str] = {ChatRow: "chat", PreferenceRow: "preference"}
