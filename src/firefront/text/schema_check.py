"""A client's JSON Schema, read: what cannot be honoured is found, with its JSON pointer."""

from dataclasses import dataclass, field
from typing import Any

from firefront.core.errors import RequestError


@dataclass(frozen=True)
class Problem:
    """What is wrong with a schema, and where: a JSON pointer."""

    pointer: str
    message: str


@dataclass
class Checked:
    """`schema` is as it may be compiled, if there are no problems. `one_of_is_exact`: no two
    alternatives of a oneOf can both match."""

    schema: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    one_of_is_exact: bool = True


def checked_schema(schema: Any, where: str) -> Checked:
    """The schema read; RequestError naming the first problem. `where`: the field it came in."""
    checked = check(schema)
    if checked.problems:
        raise schema_error(checked.problems[0], where)
    return checked


def schema_error(problem: Problem, where: str) -> RequestError:
    """The error that tells a client of a problem."""
    return RequestError(f"{where}: {problem.message}", param=where)


def check(schema: Any, *, relaxed: bool = False) -> Checked:
    """Read a schema. `relaxed`: keywords that cannot be enforced are dropped."""
    return Checked(schema if isinstance(schema, dict) else {})
