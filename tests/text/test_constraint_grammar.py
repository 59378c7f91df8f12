"""Constraints as grammars: just the texts they mean, spelled in one way."""

import json
import random
import re
from typing import Any

import jsonschema
import pytest

from firefront.core.chat import Constraint
from firefront.core.errors import GrammarError, RequestError
from firefront.text.answer_format import AnswerFormat
from firefront.text.constraint_grammar import MAX_GBNF_RULES, constraint_rules
from firefront.text.grammar import answer_grammar
from firefront.text.matching import new_matcher
from firefront.text.schema_check import check
from tests.grammar_words import BYTES, accepts, walk


def source_of(kind: Any, value: Any = None) -> str:
    grammar = answer_grammar(AnswerFormat(), constraint=Constraint(kind=kind, value=value))
    assert grammar is not None
    return grammar


def test_any_object_in_one_spelling() -> None:
    source = source_of("json_object")
    for value in ({}, {"a": 1, "b": [True, None, {"c": "x"}]}, {"": -1.5e3}, {"é\n": "日本"}):
        text = json.dumps(value, ensure_ascii=False).replace("-1500.0", "-1.5e3")
        assert accepts(source, text), text
        assert accepts(source, json.dumps(value, separators=(",", ":"))) == (not value)
    for text in ("[]", "1", "", "{", ' {"a": 1}', '{"a": 1} ', '{"a":  1}', "{\n}", '{"a": 1,}'):
        assert not accepts(source, text), text


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("abc", ["abc"], ["ab", "abcd", "xabc"]),
        ("^abc$", ["abc"], ["ab", "abcd"]),
        (r"^a|b$", ["a", "b"], ["ab"]),
        (r"^(a|b)$|^c$", ["a", "b", "c"], ["ac"]),
        (r"\A\d+\Z", ["1", "42"], ["", "x", "٣"]),
        (r"a\$", ["a$"], ["a"]),
        (r"[$^]+$", ["$", "^$"], [""]),
        (r"[]a]b$", ["]b", "ab"], ["b"]),
        (r"a/b\/c", ["a/b/c"], ["abc"]),
        ("a\nb", ["a\nb"], ["ab"]),
        ("(a|b){2,3}", ["ab", "bab"], ["a", "abab"]),
        (r"[^\x00-\x7f]+", ["é", "日本"], ["e"]),
        ('"quoted"', ['"quoted"'], ["quoted"]),
        ("a.c", ["abc", "a日c"], ["a\nc"]),
        (r"\w+@\w+\.com", ["a@b.com"], ["a@b.org"]),
    ],
)
def test_a_pattern_is_the_whole_answer(pattern: str, good: list[str], bad: list[str]) -> None:
    source = source_of("regex", pattern)
    for text in good:
        assert accepts(source, text), text
    for text in bad:
        assert not accepts(source, text), text


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "[z-a]", "*", r"\bx"])
def test_patterns_that_cannot_be_honoured(pattern: str) -> None:
    with pytest.raises(GrammarError) as caught:
        new_matcher(BYTES, source_of("regex", pattern))
    assert 3 < len(caught.value.message) < 500


def test_choices_are_just_their_texts() -> None:
    texts = ["a", "ab", 'say "hi"', "line\nbreak", "back\\slash", "é日", "%json {", "a|b", "/x/"]
    source = source_of("choice", texts)
    for text in texts:
        assert accepts(source, text), text
    for text in ("", "b", "abc", "a|", "say", "x"):
        assert not accepts(source, text), text
    many = [f"choice number {i}" for i in range(4000)]
    source = source_of("choice", many)
    assert accepts(source, many[3999]) and not accepts(source, "choice number 4000")


def test_grammars_in_both_notations() -> None:
    lark = 'start: greeting name\ngreeting: "hi " | "bye "\nname: /[A-Z][a-z]+/'
    gbnf = """
    # a comment
    root ::= greeting name
    greeting ::= "hi " | "bye "
    name ::= [A-Z] [a-z]+
    """
    for source in (lark, f"%llguidance {{}}\n{lark}", gbnf):
        grammar = source_of("grammar", source)
        assert accepts(grammar, "hi Ada") and not accepts(grammar, "hi ada")
    assert accepts(source_of("grammar", 'root ::= Part-one\nPart-one ::= "a" | "b"'), "b")
    assert accepts(source_of("grammar", 'start: "::=" /x+/'), "::=xx")
    spaced = 'start: "a" "b"\n%ignore / /'
    assert accepts(source_of("grammar", spaced), "a b")


@pytest.mark.parametrize(
    "source",
    [
        "root ::= nowhere",
        'main ::= "a"',
        'root ::= start\nstart ::= "a"',
        "root ::= (",
        "root ::= " + "(" * 5000,
        'root ::= "\\q"',
        "".join(f'r{i} ::= "a"\n' for i in range(MAX_GBNF_RULES + 1)),
        'root ::= "' + "x" * 40_000 + '"',
        "start: " + "x" * 140_000,
    ],
    ids=lambda source: source[:20],
)
def test_grammars_that_are_refused_at_once(source: str) -> None:
    with pytest.raises(RequestError) as caught:
        constraint_rules(Constraint(kind="grammar", value=source, param="guided_grammar"))
    assert caught.value.param == "guided_grammar"
    assert caught.value.message.startswith("guided_grammar: ")
    assert len(caught.value.message) < 600


# Random schemas. What the check lets pass and llguidance compiles is kept by every text.

LEAVES: list[Any] = [
    {"type": "string"}, {"type": "string", "maxLength": 4}, {"type": "string", "minLength": 2},
    {"type": "string", "pattern": "^[ab]+$"}, {"type": "string", "pattern": "x|y"},
    {"type": "string", "format": "date"}, {"type": "string", "format": "time"},
    {"type": "string", "format": "uuid"}, {"type": "string", "format": "ipv4"},
    {"type": "integer"}, {"type": "integer", "minimum": -5, "maximum": 12},
    {"type": "integer", "exclusiveMinimum": 0, "maximum": 300, "multipleOf": 7},
    {"type": "number", "minimum": 0.5}, {"type": "number", "exclusiveMaximum": 1},
    {"type": "boolean"}, {"type": "null"}, {"const": {"a": [1, "b"]}}, {"const": 1.5},
    {"enum": ["a", 1, None, [2]]}, {"type": ["integer", "null"]}, {}, True,
    {"type": ["string", "array"], "minLength": 1, "minItems": 1},
]  # fmt: skip


def random_schema(chance: random.Random, depth: int) -> Any:
    if depth == 0 or chance.random() < 0.25:
        return chance.choice(LEAVES)
    kind = chance.choice(["object", "object", "map", "array", "tuple", "anyOf", "allOf", "oneOf"])
    some = [random_schema(chance, depth - 1) for _ in range(chance.randint(1, 3))]
    names = chance.sample(["a", "b", "ab", "name", "é", "x y", '"'], len(some))
    if kind == "object":
        properties = dict(zip(names, some, strict=True))
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        schema["required"] = chance.sample(names, chance.randint(0, len(names)))
        if chance.random() < 0.2:
            schema["required"].append("other")
        if chance.random() < 0.6:
            schema["additionalProperties"] = chance.choice([False, some[0], {"type": "integer"}])
        if chance.random() < 0.3:
            schema["patternProperties"] = {chance.choice(["^a", "b$", "m"]): some[-1]}
        if chance.random() < 0.2:
            schema["minProperties"] = chance.randint(0, 2)
        if chance.random() < 0.2:
            schema["maxProperties"] = chance.randint(1, 3)
        return schema
    if kind == "map":
        return {"type": "object", "additionalProperties": some[0], "minProperties": 1}
    if kind == "array":
        low = chance.randint(0, 2)
        return {"type": "array", "items": some[0], "minItems": low, "maxItems": low + 2}
    if kind == "tuple":
        last = chance.choice([False, True, {"type": "null"}])
        low = chance.randint(0, 2)
        return {"type": "array", "prefixItems": some, "items": last, "minItems": low}
    return {kind: some}


def test_whatever_compiles_is_kept_by_every_text() -> None:
    chance = random.Random(11)
    num_compiled = num_texts = 0
    for round_ in range(700):
        schema = random_schema(chance, 3)
        if check(schema).problems:
            continue
        source = source_of("json_schema", schema)
        try:
            new_matcher(BYTES, source)
        except GrammarError:
            continue
        num_compiled += 1
        for seed in range(4):
            text = walk(source, 1000 * round_ + seed)
            if text is None:
                continue
            num_texts += 1
            assert not re.search(r"\s\s", re.sub(r'"(\\.|[^"\\])*"', '""', text))
            value = json.loads(text)
            try:
                jsonschema.Draft202012Validator(schema).validate(value)
            except jsonschema.ValidationError as error:
                raise AssertionError(f"{json.dumps(schema)}: {text}: {error.message}") from None
    assert num_compiled > 200 and num_texts > 700
