"""Constraints over HTTP: refused in words before anything runs, and schemas:check."""

from typing import Any

import httpx2
import openai
import pytest

from tests.gateway.live import Live

ASK = [{"role": "user", "content": "hello"}]
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def chat(live: Live, **fields: Any) -> httpx2.Response:
    body = {"model": "fake", "messages": ASK, "max_tokens": 4, **fields}
    with live.http() as http:
        return http.post("/v1/chat/completions", json=body)


GOOD: list[dict[str, Any]] = [
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}},
    {"response_format": {"type": "grammar", "grammar": 'root ::= "a"+'}},
    {"response_format": {"type": "regex", "pattern": "a+"}},
    {"structured_outputs": {"json": PERSON}},
    {"structured_outputs": {"choice": ["a", "b"]}},
    {"guided_json": PERSON},
    {"guided_json": '{"type": "null"}'},
    {"guided_regex": "a+"},
    {"guided_choice": ["yes", "no"]},
    {"guided_grammar": "start: /a+/"},
    {"grammar": "start: /a+/"},
    {"json_schema": PERSON},
]


@pytest.mark.parametrize("fields", GOOD, ids=lambda f: str(f)[:50])
def test_every_spelling_runs(live: Live, fields: dict[str, Any]) -> None:
    answer = chat(live, **fields)
    assert answer.status_code == 200, answer.text
    assert "x-firefront-ignored-params" not in answer.headers


NEVER_NULL = {"properties": {"a": {"not": {}}}}
AHEAD = {"properties": {"a": {"type": "string", "pattern": "(?=a)"}}}
IF = {"if": {}, "then": {"minLength": 1}}


def format_of(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


WHERE = "response_format.json_schema.schema"
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": format_of({"type": "strin"})}, WHERE, "/type"),
    ({"response_format": format_of(NEVER_NULL)}, WHERE, "/properties/a/not"),
    ({"response_format": format_of(AHEAD)}, WHERE, "/properties/a"),
    ({"response_format": format_of({"$ref": "http://169.254.169.254/x"})}, WHERE, "/$ref"),
    ({"response_format": format_of({"allOf": [{"type": "null"}, {"type": "string"}]})}, WHERE, ""),
    ({"guided_json": {"uniqueItems": True}}, "guided_json", "/uniqueItems"),
    ({"guided_regex": "("}, "guided_regex", ""),
    ({"guided_grammar": "start: ["}, "guided_grammar", ""),
    ({"grammar": "root ::= nowhere"}, "grammar", ""),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "pointer"), BAD, ids=lambda v: str(v)[:50])
def test_what_cannot_be_honoured_is_a_400(
    live: Live, fields: dict[str, Any], param: str, pointer: str
) -> None:
    for stream in (False, True):
        answer = chat(live, **fields, stream=stream)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param and error["type"] == "invalid_request_error"
        assert error["message"].startswith(f"{param}: ") and pointer in error["message"]


def test_completions_too(sdk: openai.OpenAI) -> None:
    made = sdk.completions.create(model="fake", prompt="x", extra_body={"guided_choice": ["a"]})
    assert made.choices[0].finish_reason
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.completions.create(model="fake", prompt="x", extra_body={"guided_regex": "("})
    assert caught.value.param == "guided_regex"


def post_check(live: Live, **body: Any) -> tuple[int, Any]:
    with live.http() as http:
        answer = http.post("/v1/schemas:check", json=body)
    return answer.status_code, answer.json()


def test_check_says_what_is_wrong(live: Live) -> None:
    status, found = post_check(live, schema=PERSON, model="fake")
    assert status == 200 and found["ok"] and found["errors"] == []
    assert found["model"] == "fake" and found["grammar_bytes"] > 50
    assert found["compile_ms"] > 0 and found["first_mask_ms"] > 0
    schema = {"x-y": 1, "properties": {"a": {"type": "x"}, "b": IF}}
    status, found = post_check(live, schema=schema)
    assert status == 200 and not found["ok"] and found["ignored"] == ["/x-y"]
    assert [e["pointer"] for e in found["errors"]] == ["/properties/a/type", "/properties/b/if"]
    assert found["compile_ms"] is None
    status, found = post_check(live, schema={"items": {"type": "string", "pattern": "("}})
    assert status == 200 and [e["pointer"] for e in found["errors"]] == ["/items"]


@pytest.mark.parametrize("schema", [5, "x", [], False, {"$ref": "#"}, {"enum": [["a"] * 50_000]}])
def test_check_takes_anything_for_a_schema(live: Live, schema: Any) -> None:
    status, found = post_check(live, schema=schema)
    assert status == 200 and not found["ok"] and found["errors"][0]["message"]


@pytest.mark.parametrize("fields", GOOD, ids=lambda f: str(f)[:50])
def test_check_takes_every_spelling(live: Live, fields: dict[str, Any]) -> None:
    status, found = post_check(live, **fields)
    assert (status, found["ok"]) == (200, True), found


def test_check_of_grammars_and_of_nothing(live: Live) -> None:
    for fields in ({"guided_regex": "("}, {"grammar": "root ::= x"}, {"grammar": "start: ["}):
        status, found = post_check(live, **fields)
        assert status == 200 and not found["ok"] and found["errors"][0]["pointer"] == ""
    assert post_check(live)[0] == 400
    assert post_check(live, schema={}, guided_regex="a")[0] == 400
    assert post_check(live, schema={}, model="nobody")[0] == 404
    with live.http() as http:
        document = http.get("/openapi.json").json()
    assert "/v1/schemas:check" in document["paths"]
    assert "SchemaCheck" in document["components"]["schemas"]
