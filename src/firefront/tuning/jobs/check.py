"""Whether a file can be learned from by a method and a model: every row is read and rendered.

Owns the words of a refusal: by line, each kind of problem counted. Knows no store and no training.
Invariant: rows that passed here become examples without an error.
"""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from firefront.core.errors import RequestError
from firefront.text.tokenizer import Tokenizer
from firefront.tuning.examples import Example, RowError, row_examples
from firefront.tuning.jobs.request import Method
from firefront.tuning.rows import (
    ChatRow,
    PreferenceRow,
    Problem,
    Row,
    RowReader,
    open_rows,
)

MIN_ROWS = 10  # fewer teach nothing that could be told from noise
_KIND: dict[Method, type[Row]] = {"supervised": ChatRow, "dpo": PreferenceRow}
_WANTED: dict[Method, str] = {
    "supervised": "chat rows ({messages: [...]})",
    "dpo": "preference rows ({input, preferred_output, non_preferred_output})",
}
OnRow = Callable[[], None]  # what it raises ends the work


@dataclass
class Checked:
    """What was found in a file: rows, tokens that are read and tokens that are learned; `cut`:
    lines of rows that are longer than is learned."""

    num_rows: int = 0
    num_tokens: int = 0
    num_labels: int = 0
    longest: int = 0
    cut: list[int] = field(default_factory=list)


class FileError(RequestError):
    """A file that cannot be learned from; `param` says which of the job's."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message, param=param, code=f"invalid_{param}")


def check_file(
    path: Path,
    tokenizer: Tokenizer,
    method: Method,
    *,
    param: str,
    name: str,
    max_len: int,
    min_rows: int = MIN_ROWS,
    on_row: OnRow = lambda: None,
) -> Checked:
    """Go through the file at `path`, which is called `name`; FileError with the lines at fault."""
    found = Checked()
    with open_rows(path) as stream:
        reader = RowReader(stream, name)
        try:
            for row in reader:
                on_row()
                try:
                    examples = examples_of(row, tokenizer, method, max_len)
                except RowError as error:
                    reader.problems.add(Problem(row.line, error.problem))
                    continue
                _count(found, row.line, examples)
        except RequestError as error:  # of the file as a whole
            raise FileError(param, error.message) from None
    if reader.problems.total:
        raise FileError(param, reader.problems.refusal(name, found.num_rows))
    if found.num_rows < min_rows:
        raise FileError(param, f"{name}: has {found.num_rows} rows; at least {min_rows} are needed")
    return found


def examples_of(row: Row, tokenizer: Tokenizer, method: Method, max_len: int) -> list[Example]:
    """`row_examples`; RowError also if it is a row of another method."""
    if not isinstance(row, _KIND[method]):
        raise RowError(row.line, f"the method {method} needs {_WANTED[method]}")
    return row_examples(tokenizer, row, max_len)


def read_examples(
    path: Path,
    tokenizer: Tokenizer,
    method: Method,
    max_len: int,
    *,
    left_out: Set[int] = frozenset(),
    on_row: OnRow = lambda: None,
) -> Iterator[list[Example]]:
    """The examples of each row of a file that was checked, but for some lines."""
    with open_rows(path) as stream:
        for row in RowReader(stream, path.name):
            on_row()
            if row.line in left_out:
                continue
            yield examples_of(row, tokenizer, method, max_len)


def _count(found: Checked, line: int, examples: list[Example]) -> None:
    found.num_rows += 1
    found.num_tokens += sum(len(example.token_ids) for example in examples)
    found.num_labels += sum(example.num_labels for example in examples)
    found.longest = max(found.longest, *(len(example.token_ids) for example in examples))
    if any(example.num_cut for example in examples):
        found.cut.append(line)
