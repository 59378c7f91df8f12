"""The starter model held to schemas, patterns and choices: over HTTP and in this process."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from firefront import LLM, SamplingParams
from firefront.core.errors import RequestError
from tests.e2e.served import Served, joined, said

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 40},
        "country": {"enum": ["France", "Japan", "Kenya"]},
        "population": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
        "sights": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3},
    },
    "required": ["city", "country", "population", "sights"],
    "additionalProperties": False,
}
ASK = [{"role": "user", "content": "Describe Paris in JSON."}]


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_schema_whole_streamed_and_many(live: Served, temperature: float) -> None:
    fields = {
        "messages": ASK, "response_format": schema_format(CITY), "max_tokens": 300, "seed": 5,
        "temperature": temperature,
    }  # fmt: skip
    answer = live.chat(**fields)
    jsonschema.validate(json.loads(said(answer)), CITY)
    assert answer.choices[0].finish_reason == "stop"
    assert joined(live.chat(**fields, stream=True)) == (said(answer), "stop")
    many = live.chat(**{**fields, "n": 4, "temperature": 1.5})
    for choice in many.choices:
        jsonschema.validate(json.loads(choice.message.content), CITY)
    scored = live.chat(**fields, logprobs=True)
    assert said(scored) == said(answer)
    entries = scored.choices[0].logprobs.content
    assert b"".join(bytes(e.bytes) for e in entries).decode().startswith(said(scored))


def test_patterns_choices_and_grammars(live: Served) -> None:
    date = live.chat(extra_body={"guided_regex": r"\d{4}-\d{2}-\d{2}"})
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", said(date))
    choice = live.chat(extra_body={"guided_choice": ["Berlin", "Paris", "Rome"]})
    assert said(choice) == "Paris"
    lark = live.chat(extra_body={"guided_grammar": 'start: "The answer is " /[A-Z][a-z]+/ "."'})
    assert re.fullmatch(r"The answer is [A-Z][a-z]+\.", said(lark))
    free = live.complete("Numbers:", extra_body={"guided_regex": "( [0-9])+"}, max_tokens=8)
    assert re.fullmatch("( [0-9])+", free.choices[0].text)


def test_any_object_ends_or_is_cut(live: Served) -> None:
    answer = live.chat(
        messages=ASK, response_format={"type": "json_object"}, max_tokens=400, temperature=0
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(said(answer)), dict)
    assert "\n" not in re.sub(r'"(\\.|[^"\\])*"?', "", said(answer))


def test_refused_before_it_runs(live: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="/properties/a/uniqueItems") as caught:
        live.chat(response_format=schema_format({"properties": {"a": {"uniqueItems": True}}}))
    assert caught.value.param == "response_format.json_schema.schema"


def test_in_this_process(starter_path: Path) -> None:
    llm = LLM(f"file:{starter_path}", context=1024, threads=1)
    params = SamplingParams(temperature=0.0, max_tokens=200)
    results = llm.chat([ASK, ASK], params, structured_outputs={"json": CITY})
    for result in results:
        jsonschema.validate(json.loads(result.outputs[0].text), CITY)
    (chosen,) = llm.generate("2 + 2 =", params, structured_outputs={"choice": [" 4", " 5"]})
    assert chosen.outputs[0].text in (" 4", " 5") and chosen.outputs[0].finish_reason == "stop"
    for wrong in ({"json": {"type": "x"}}, {"regex": "("}, {}, {"json": {}, "regex": "a"}):
        with pytest.raises(RequestError):
            llm.generate("a", params, structured_outputs=wrong)
