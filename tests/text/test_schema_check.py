"""Schemas read strictly: what is refused and where, what is kept, what is ignored."""

import json
from typing import Any

import pytest

from firefront.core.errors import RequestError
from firefront.text import schema_keywords as words
from firefront.text.schema_check import (
    MAX_DEPTH,
    MAX_SCHEMA_BYTES,
    check,
    checked_schema,
)

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
CAT = {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog", "wolf"]}}, "required": ["kind"]}

REFUSED: list[tuple[Any, str, str]] = [
    ("text", "", "an object"),
    (None, "", "an object"),
    (False, "", "nothing can match"),
    ({"type": "strin"}, "/type", "must be one of"),
    ({"type": []}, "/type", "must be one of"),
    ({"type": "any"}, "/type", "must be one of"),
    ({"minLength": -1}, "/minLength", "whole number"),
    ({"minLength": 1.5}, "/minLength", "whole number"),
    ({"minLength": True}, "/minLength", "whole number"),
    ({"maxItems": "3"}, "/maxItems", "whole number"),
    ({"minimum": "3"}, "/minimum", "must be a number"),
    ({"minimum": True}, "/minimum", "must be a number"),
    ({"type": "integer", "minimum": 10**30}, "/minimum", "beyond"),
    ({"multipleOf": 0}, "/multipleOf", "more than 0"),
    ({"const": 2**53 + 1}, "/const", "too many digits"),
    ({"enum": [1, [2**60 + 1]]}, "/enum", "too many digits"),
    ({"enum": []}, "/enum", "not empty"),
    ({"required": "name"}, "/required", "list of names"),
    ({"type": "string", "required": True}, "/required", "list of names"),
    ({"properties": []}, "/properties", "object of schemas"),
    ({"properties": {"a/b": {"type": "x"}}}, "/properties/a~1b/type", "must be one of"),
    ({"properties": {"a": 5}}, "/properties/a", "a schema must be"),
    ({"items": 5}, "/items", "a schema must be"),
    ({"anyOf": []}, "/anyOf", "not empty"),
    ({"allOf": {}}, "/allOf", "list of schemas"),
    ({"anyOf": [{}, 3]}, "/anyOf/1", "a schema must be"),
    ({"pattern": 3}, "/pattern", "must be text"),
    ({"type": "string", "format": "color"}, "/format", "not supported"),
    ({"format": "unknown"}, "/format", "not supported"),
    ({"format": 3}, "/format", "must be text"),
    ({"$ref": 3}, "/$ref", "must be text"),
    ({"$ref": "#/$defs/none"}, "/$ref", "local references"),
    ({"$ref": "#none"}, "/$ref", "local references"),
    ({"$ref": "https://example.com/a.json"}, "/$ref", "local references"),
    ({"$ref": "file:///etc/passwd"}, "/$ref", "local references"),
    ({"$ref": "http://["}, "/$ref", "local references"),
    ({"$ref": "#/$defs/%ff", "$defs": {}}, "/$ref", "local references"),
    ({"$ref": "#/required/0", "required": ["a"]}, "/$ref", "local references"),
    ({"$ref": "#"}, "", "refers to itself"),
    ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "", "refers to itself"),
    (
        {"$ref": "#/$defs/a",
         "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}},
        "/$defs/a", "refers to itself",
    ),
    ({"$ref": "#/$defs/node", "$defs": {"node": {**NODE, "required": ["next"]}}}, "", "no end"),
    ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "", "no end"),
    ({"oneOf": [{"maximum": 2}, {"maximum": 5}]}, "/oneOf", "alternatives 0 and 1"),
    ({"oneOf": [{"const": 1}, {"const": 2}, {"enum": [3, 1.0]}]}, "/oneOf", "0 and 2"),
    ({"oneOf": [CAT, DOG, CAT]}, "/oneOf", "alternatives 0 and 2"),
    ({"type": "object", "minProperties": 2}, "/minProperties", "at most one more"),
    ({"minlength": 3}, "/minlength", "'minLength' is meant"),
    ({"max_items": 3}, "/max_items", "'maxItems' is meant"),
    ({"ref": "#"}, "/ref", "'$ref' is meant"),
    ({"if": {"type": "string"}, "then": {"minLength": 1}}, "/if", "cannot be enforced"),
    ({"dependentRequired": {"a": ["b"]}}, "/dependentRequired", "cannot be enforced"),
    ({"type": "array", "uniqueItems": True}, "/uniqueItems", "cannot be enforced"),
    ({"not": {"type": "null"}}, "/not", "cannot be enforced"),
    ({"unevaluatedProperties": False, "allOf": [{}]}, "/unevaluatedProperties", "cannot be"),
    ({"propertyNames": {"maxLength": 3}}, "/propertyNames", "cannot be enforced"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "pointer", "message"), REFUSED, ids=lambda v: str(v)[:60])
def test_refused_with_its_pointer(schema: Any, pointer: str, message: str) -> None:
    problems = check(schema).problems
    assert (problems[0].pointer, message in problems[0].message) == (pointer, True), problems
    with pytest.raises(RequestError) as caught:
        checked_schema(schema, "response_format.schema")
    assert caught.value.param == "response_format.schema"
    assert caught.value.message.startswith("response_format.schema: ")
    assert pointer in caught.value.message


def test_every_problem_is_found() -> None:
    schema = {"properties": {"a": {"type": 1}, "b": {"not": {}}, "c": {"items": {"format": 1}}}}
    pointers = [problem.pointer for problem in check(schema).problems]
    assert pointers == ["/properties/a/type", "/properties/b/not", "/properties/c/items/format"]


KEPT: list[tuple[Any, Any]] = [
    (True, {}),
    ({}, {}),
    ({"title": "T", "description": "d", "default": 1, "examples": [1], "$comment": "c",
      "deprecated": True, "readOnly": True, "writeOnly": True, "$schema": "s", "$id": "u:x",
      "contentEncoding": "base64", "example": 1, "type": "string"}, {"type": "string"}),
    ({"minLength": 3.0}, {"minLength": 3}),
    ({"uniqueItems": False, "not": False, "dependencies": {}, "propertyNames": True}, {}),
    ({"uniqueItems": True, "maxItems": 1}, {"maxItems": 1}),
    ({"then": {"type": "null"}, "minContains": 2}, {}),
    ({"if": {"type": "null"}}, {}),
    ({"unevaluatedProperties": False, "properties": {}},
     {"additionalProperties": False, "properties": {}}),
    ({"type": "integer", "format": "int32"}, {"type": "integer"}),
    ({"type": "string", "format": "password"}, {"type": "string"}),
    ({"type": "string", "nullable": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ({"type": "string", "nullable": False}, {"type": "string"}),
    ({"properties": {"title": {"title": "x"}, "not": True}},
     {"properties": {"title": {}, "not": True}}),
    ({"const": {"title": 1}, "enum": [{"not": 1}]}, {"const": {"title": 1}, "enum": [{"not": 1}]}),
    ({"items": [{}, {"title": "x"}], "additionalItems": False},
     {"items": [{}, {}], "additionalItems": False}),
    ({"exclusiveMinimum": True, "minimum": 3}, {"exclusiveMinimum": True, "minimum": 3}),
    ({"type": "object", "minProperties": 1}, {"type": "object", "minProperties": 1}),
    ({"$defs": {"unused": {"not": {}}}}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "kept"), KEPT, ids=lambda v: str(v)[:60])
def test_what_is_kept(schema: Any, kept: Any) -> None:
    checked = check(schema)
    assert (checked.problems, checked.ignored) == ([], [])
    assert json.dumps(checked.schema) == json.dumps(kept)  # the order of keywords too


def test_foreign_keywords_are_reported() -> None:
    schema = {"x-order": 1, "properties": {"a": {"tsType": "A"}}, "x-guidance": {"lenient": 1}}
    checked = check(schema)
    assert checked.ignored == ["/x-order", "/properties/a/tsType", "/x-guidance"]
    assert checked.schema == {"properties": {"a": {}}}


def test_relaxed_drops_what_cannot_be_enforced() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "uniqueItems": True}, "b": {"format": "color"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "minlength": 1,
    }
    checked = check(schema, relaxed=True)
    assert not checked.problems
    assert checked.ignored == [
        "/properties/a/uniqueItems", "/properties/b/format", "/minlength"
    ]  # fmt: skip
    assert check({"type": "x"}, relaxed=True).problems


def test_references_become_definitions_of_ours() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/root.json",
        "definitions": {
            "a b/c": {"type": "string", "title": "x"},
            "anchored": {"$anchor": "here", "type": "null"},
            "own": {"$id": "own.json", "definitions": {"in": {"type": "integer"}},
                    "items": {"$ref": "#/definitions/in"}},
        },
        "x-parts": {"p": {"type": "boolean"}},
        "prefixItems": [
            {"$ref": "#/definitions/a%20b~1c"},
            {"$ref": "#here"},
            {"$ref": "https://example.com/own.json"},
            {"$ref": "root.json#/definitions/a b~1c"},
            {"$ref": "#/x-parts/p"},
            {"$ref": "#"},
        ],
    }  # fmt: skip
    checked = check(schema)
    assert not checked.problems and checked.ignored == ["/x-parts"]
    names = [item["$ref"].rpartition("/")[2] for item in checked.schema["prefixItems"]]
    assert names[0] == names[3] and len(set(names)) == 5
    definitions = checked.schema["$defs"]
    places = [definitions[name]["$comment"] for name in dict.fromkeys(names)]
    assert places == [
        "/definitions/a b~1c", "/definitions/anchored", "/definitions/own", "/x-parts/p", "",
    ]  # fmt: skip
    inner = definitions[names[2]]["items"]["$ref"].rpartition("/")[2]
    assert definitions[inner] == {
        "$comment": "/definitions/own/definitions/in", "type": "integer"
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        [CAT, DOG],
        [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
        [{"type": "string"}, {"type": "integer"}, {"type": ["null", "array"]}],
        [{"const": 1}, {"const": True}, {"const": "1"}, {"enum": [2, 3]}],
        [{"const": "a"}, {"type": "integer"}],
        [{"minimum": 3, "type": "number"}, {"maximum": 2, "type": "integer"}],
        [{"allOf": [CAT, {"type": "object"}]}, {"anyOf": [DOG, {"type": "null"}]}],
        [
            {"type": "object", "required": ["a"]},
            {"type": "object", "properties": {"b": {}}, "additionalProperties": False},
        ],
    ],
    ids=lambda v: str(v)[:50],
)
def test_alternatives_that_exclude_each_other(options: list[Any]) -> None:
    checked = check({"oneOf": options, "$defs": {"cat": CAT, "dog": DOG}})
    assert checked.problems == [] and checked.one_of_is_exact


def test_recursion_that_can_end() -> None:
    for schema in (
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        {"type": "array", "items": {"$ref": "#"}},
        {"$ref": "#/$defs/a", "$defs": {"a": {
            "type": "object", "required": ["b"],
            "properties": {"b": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
        }}},
    ):  # fmt: skip
        assert check(schema).problems == []


def test_limits() -> None:
    deep: Any = {}
    for _ in range(MAX_DEPTH):
        deep = {"items": deep}
    assert "deeper" in check(deep).problems[0].message
    assert not check(deep["items"]).problems
    endless: Any = []
    for _ in range(100_000):
        endless = [endless]
    assert "deeper" in check({"const": endless}).problems[0].message
    large = {"enum": ["x" * MAX_SCHEMA_BYTES]}
    assert "bytes" in check(large).problems[0].message
    assert "not a JSON number" in check({"const": float("nan")}).problems[0].message
    assert "not JSON" in check({"const": {1, 2}}).problems[0].message


def test_what_references_repeat_is_bounded() -> None:
    inner: Any = {"type": "string", "enum": ["x" * 20_000]}
    schema: Any = {"properties": {"a": inner}}
    for _ in range(30):
        schema = {"properties": {"a": schema}}
    links = {f"r{i}": {"$ref": "#" + "/properties/a" * (i + 1)} for i in range(30)}
    schema["properties"].update(links)
    assert [p.message for p in check(schema).problems] == [
        "it is too large once its references are followed"
    ]
    assert not check({"properties": {"a": inner, "b": {"$ref": "#/properties/a"}}}).problems


def test_a_long_chain_of_references() -> None:
    names = [f"d{i}" for i in range(1200)]
    defs: dict[str, Any] = {
        name: {
            "type": "object", "required": ["n"], "properties": {"n": {"$ref": f"#/$defs/{then}"}}
        }
        for name, then in zip(names, names[1:], strict=False)
    }
    ended = {"$ref": "#/$defs/d0", "$defs": {**defs, names[-1]: {"type": "null"}}}
    assert not check(ended).problems
    around = {"$ref": "#/$defs/d0", "$defs": {**defs, names[-1]: {"allOf": [defs["d1"]]}}}
    assert "no end" in check(around).problems[0].message


def test_each_keyword_is_in_one_list() -> None:
    lists = (words.ANNOTATIONS, words.LOCATIONS, words.HONOURED, frozenset(words.REFUSED))
    for i, one in enumerate(lists):
        for other in lists[:i]:
            assert not one & other
