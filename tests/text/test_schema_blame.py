"""The smallest schema that does not compile is named, and why, in words."""

from typing import Any

import pytest

from firefront.core.chat import Constraint
from firefront.core.errors import GrammarError
from firefront.text.answer_format import AnswerFormat
from firefront.text.grammar import answer_grammar
from firefront.text.matching import new_matcher
from firefront.text.schema_blame import blame
from firefront.text.schema_check import Problem
from tests.grammar_words import BYTES


def error_of(source: str) -> str | None:
    try:
        new_matcher(BYTES, source)
    except GrammarError as error:
        return error.message
    return None


def blamed(kind: Any, value: Any) -> Problem:
    source = answer_grammar(AnswerFormat(), constraint=Constraint(kind=kind, value=value))
    assert source is not None
    reason = error_of(source)
    assert reason is not None
    return blame(source, reason, error_of)


GOOD = {"type": "string", "maxLength": 3}
BAD_PATTERN = {"type": "string", "pattern": "a(?=b)"}
NOTHING = {"type": "integer", "minimum": 3, "maximum": 2}


@pytest.mark.parametrize(
    ("schema", "pointer", "reason"),
    [
        (BAD_PATTERN, "", "look-around"),
        ({"properties": {"a": GOOD, "b/c": BAD_PATTERN}}, "/properties/b~1c", "look-around"),
        ({"items": [GOOD, {"anyOf": [GOOD, BAD_PATTERN]}]}, "/items/1/anyOf/1", "look-around"),
        (
            {"type": "object", "properties": {"a": NOTHING}, "required": ["a"]},
            "/properties/a", "minimum",
        ),
        (
            {"properties": {"a": {"$ref": "#/definitions/d"}},
             "definitions": {"c": GOOD, "d": {"items": BAD_PATTERN}}},
            "/definitions/d/items", "look-around",
        ),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "", "incompatible types"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "", "minLength"),
    ],
)  # fmt: skip
def test_the_pointer_and_the_reason(schema: Any, pointer: str, reason: str) -> None:
    problem = blamed("json_schema", schema)
    assert problem.pointer == pointer, problem
    assert reason in problem.message, problem
    assert "\n" not in problem.message and len(problem.message) < 500


def test_where_no_schema_is_at_fault() -> None:
    problem = blamed("regex", "a(?=b)")
    assert problem.pointer == "" and "look-around" in problem.message
    for source in ("start: [", '%json {"type": "string"', 'start: %json {"pattern": "("}'):
        assert blamed("grammar", source).message


def test_a_bounded_number_of_tries() -> None:
    tried = []

    def fails(source: str) -> str:
        tried.append(source)
        return "no"

    wide: Any = {"anyOf": [{"anyOf": [GOOD] * 50}] * 50}
    source = answer_grammar(AnswerFormat(), constraint=Constraint(kind="json_schema", value=wide))
    blame(source, "no", fails)
    assert len(tried) <= 400
