"""Metrics against published examples, other people's implementations, and sums by hand."""

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firefront.tuning.evaluation import calls, fields, labels, needle, rouge, schema


def test_labels_by_hand() -> None:
    """scikit-learn's own example of macro-F1, and answers that are no label."""
    report = labels.label_report(list("012012"), list("021001"))
    assert report.macro_f1 == pytest.approx(0.26666666)  # sklearn.metrics.f1_score's docstring
    assert report.accuracy == pytest.approx(2 / 6) and report.num_other == 0
    assert [(each.label, each.precision, each.recall) for each in report.labels] == [
        ("0", pytest.approx(2 / 3), 1.0), ("1", 0.0, 0.0), ("2", 0.0, 0.0),
    ]  # fmt: skip
    report = labels.label_report(["a", "a", "a", "b"], ["a", "x", "", "a"])
    assert report.accuracy == 0.25 and report.num_other == 2
    by_label = {each.label: each for each in report.labels}
    assert by_label["a"].precision == 0.5 and by_label["a"].recall == pytest.approx(1 / 3)
    assert by_label["b"].f1 == 0 and report.macro_f1 == pytest.approx(0.4 / 2)
    pairs = {(each.reference, each.answer): each.num_rows for each in report.confusion}
    assert pairs == {("a", "a"): 1, ("a", None): 2, ("b", "a"): 1}


def test_an_empty_label_is_a_label() -> None:
    report = labels.label_report(["", "b"], ["x", "b"])
    assert report.num_other == 1 and report.accuracy == 0.5


def test_fields_by_hand() -> None:
    reference = fields.fields_of(
        {"company": "ACME  Sdn", "total": 9.0, "items": [{"name": "Tea"}, {"name": "Cake"}]}
    )
    answer = fields.fields_of(
        {"company": "acme sdn", "total": 9, "items": [{"name": "tea"}, {"name": "Bun"}],
         "date": None, "note": ""}
    )  # fmt: skip
    report = fields.field_report([reference, reference], [answer, fields.Fields()])
    scores = {each.field: each for each in report.fields}
    assert set(scores) == {"company", "total", "items[].name"}
    name = scores["items[].name"]
    assert (name.wanted, name.given, name.right) == (4, 2, 1)
    assert name.precision == 0.5 and name.recall == 0.25 and name.f1 == pytest.approx(1 / 3)
    assert (report.micro.wanted, report.micro.given, report.micro.right) == (8, 4, 3)
    assert report.micro.f1 == 0.5
    assert report.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert fields.row_f1(reference, answer) == 0.75
    assert fields.row_f1(fields.Fields(), fields.Fields()) == 1.0


@pytest.mark.parametrize(
    ("a", "b", "are_same"),
    [
        ("9.0", 9, False),
        (True, 1, False),
        (True, "true", False),
        (1e400, 1e400, True),
        (2**70, 2.0**70, True),
        ("Ä  b", "ä B", True),
        ([1, 2], [2, 1], True),
        ([1, 1], [1], False),
    ],
)
def test_values_of_fields(a: Any, b: Any, are_same: bool) -> None:
    assert (fields.fields_of({"x": a}) == fields.fields_of({"x": b})) == are_same


def test_hostile_json_is_read_or_refused() -> None:
    deep = '{"a":' * 100_000
    nearly = '{"a":' * 600 + "1" + "}" * 600  # can be read, but not be gone through
    for text in (deep, nearly, "[1]", "1", "", "{} x", '{"a": }', "```json\n{}\n```"):
        assert fields.read_object(text) is None
    assert fields.fields_of({"a": "\ud800", "b": float("nan")}).total() == 2


def test_rouge_is_the_published_example() -> None:
    """The example of google-research's rouge_score, for its README."""
    found = rouge.rouge(
        "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    )
    assert found.n1.precision == 0.75 and found.n1.recall == pytest.approx(6 / 9)
    assert found.n1.f1 == pytest.approx(0.7058823529411765)
    assert found.longest.precision == 0.625 and found.longest.recall == pytest.approx(5 / 9)
    assert found.longest.f1 == pytest.approx(0.5882352941176471)
    # Lin (2004), section 3.1: S2 and S3 share two of four words' order with the reference or less.
    police = "police killed the gunman"
    assert rouge.rouge(police, "police kill the gunman").longest.f1 == 0.75
    assert rouge.rouge(police, "the gunman kill police").longest.f1 == 0.5
    assert rouge.rouge(police, "the gunman kill police").n2.recall == pytest.approx(1 / 3)
    assert rouge.rouge("", "").n1.f1 == 0 and rouge.rouge("Ж ж", "ж").n1.recall == 0.5


def test_longest_common_subsequence_against_the_table() -> None:
    rng = random.Random(5)
    for _ in range(200):
        a, b = (
            [rng.choice("abcd") for _ in range(rng.randrange(90))] for _ in range(2)
        )
        row = [0] * (len(b) + 1)
        for word in a:
            before = row[:]
            for j, other in enumerate(b):
                row[j + 1] = before[j] + 1 if word == other else max(before[j + 1], row[j])
        assert rouge.longest_common(a, b) == row[-1]


def test_exact_calls() -> None:
    """BFCL's match itself is tested in tests/bench/test_bfcl.py."""
    play = calls.Call("play", {"artist": "U2", "where": {"service": "Tidal"}, "tags": ["a", 1]})
    other = calls.Call("stop", {})
    answer = calls.exactly([play, other])
    assert calls.are_right([other, play], answer)
    assert calls.are_right(
        [calls.Call("play", {"artist": "u2", "where": {"service": "tidal"}, "tags": ["A", 1.0]}),
         other], answer,
    )  # fmt: skip
    for wrong in (
        [play],
        [play, other, other],
        [other, calls.Call("play", {**play.arguments, "more": 1})],
        [other, calls.Call("play", {**play.arguments, "tags": [1, "a"]})],
        [other, calls.Call("play", {**play.arguments, "where": {}})],
        [other, calls.Call("play", "text")],
    ):
        assert not calls.are_right(wrong, answer)


def test_calls_of_messages() -> None:
    def message(*arguments: Any) -> dict[str, Any]:
        return {"tool_calls": [{"function": {"name": "f", "arguments": a}} for a in arguments]}

    assert calls.message_calls(message('{"a": 1}', {"a": 1}, "", None)) == (
        [calls.Call("f", {"a": 1})] * 2 + [calls.Call("f", {})] * 2, 0,
    )  # fmt: skip
    assert calls.message_calls(message("{", "[1]", '"x"', "[" * 200_000)) == ([], 4)
    assert calls.message_calls({"content": "x"}) == ([], 0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "integer"}, {"type": ["string", "null"]}, {"type": "number", "minimum": 0},
            {"exclusiveMaximum": 1}, {"minLength": 1, "maxLength": 2}, {"multipleOf": 0.5},
            {"const": 1}, {"enum": [True, "a", [1, {"a": 0}]]}, {}, {"maxProperties": 1},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda a: {"type": "array", "items": a, "minItems": 1}, inner),
        st.builds(lambda a, b: {"prefixItems": [a], "items": b}, inner, inner),
        st.builds(
            lambda a, b: {"properties": {"a": a}, "required": ["b"], "additionalProperties": b},
            inner, inner,
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"oneOf": [a, b]}, inner, inner),
    ),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, VALUES)
def test_schemas_say_what_jsonschema_says(wanted: dict[str, Any], value: Any) -> None:
    says = schema.schema_problem(value, wanted)
    validator = jsonschema.Draft202012Validator(wanted)
    assert (says is None) == validator.is_valid(value), says


def test_schemas_that_refer_or_are_wrong() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
    }
    assert schema.schema_problem({"next": {"next": None}}, tree) is None
    assert "anyOf" in (schema.schema_problem({"next": {"next": 1}}, tree) or "")
    assert "next" in (schema.schema_problem({}, tree) or "")
    for huge in (float("inf"), float("nan"), 10**400):
        assert schema.schema_problem(huge, {"type": "integer", "multipleOf": 2})
    for broken in ({"type": 7}, {"$ref": "#"}, {"enum": "x"}, {"minimum": "a"}):
        assert schema.schema_problem({}, broken) is None
    twice = {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}] * 2}}}
    value: Any = 1
    for _ in range(40):
        value = {"a": value}
    assert "too long" in (schema.schema_problem(value, twice) or "")


def test_needles_are_where_they_should_be() -> None:
    filler = "One two three. Four five six! Seven eight nine? Ten eleven twelve. " * 50
    found = needle.needles(filler, [800, 3000], num_keys=3, seed=1)
    assert [(each.depth, each.num_chars // 700) for each in found[:5]] == [
        (depth, 1) for depth in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for each in found:
        text = each.messages[0]["content"]
        assert text.count("The code of the ") == 3
        asked = text.rpartition("What is the code of the ")[2].partition("?")[0]
        fact = f"The code of the {asked} is {each.code}."
        hay = text.partition("\n\n")[2].rpartition("\n\n")[0]
        assert len(hay) == each.num_chars
        assert hay.index(fact) / len(hay) == pytest.approx(each.depth, abs=0.15)
        assert needle.is_found(each, f"It is {each.code}.")
        assert not needle.is_found(each, f"{each.code} or 1234567")
        assert not needle.is_found(each, f"1{each.code}") and not needle.is_found(each, "")
    assert json.dumps([each.code for each in found]) == json.dumps(
        [each.code for each in needle.needles(filler, [800, 3000], num_keys=3, seed=1)]
    )
