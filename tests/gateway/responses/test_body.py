"""The body's fields, as a ChatTask and as the response repeats them."""

from typing import Any

import pytest
from openai.types.responses import Response

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.gateway import schemas
from firefront.gateway.responses.answer import Envelope
from firefront.gateway.responses.body import ResponsesRequest, check, response_task
from firefront.gateway.responses.items import read_items
from firefront.gateway.task import ChatTask

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
LOOK = {"type": "function", "name": "look", "description": "d", "parameters": SCHEMA}


def parse(**fields: Any) -> tuple[ResponsesRequest, list[str]]:
    return schemas.parse({"model": "fake", "input": "hi", **fields}, ResponsesRequest)


def task(**fields: Any) -> ChatTask:
    request, _ = parse(**fields)
    check(request)
    return response_task(request, [], read_items(request.input or [], "0" * 32))


def repeated(**fields: Any) -> Response:
    """The response in progress, as the SDK's type reads it."""
    request, _ = parse(**fields)
    envelope = Envelope(request, task(**fields), model="fake", stem="0" * 32)
    return Response.model_validate(envelope.response("in_progress"))


def test_defaults() -> None:
    plain = task()
    assert plain.messages == [{"role": "user", "content": "hi"}]
    assert plain.sampling.max_tokens is None
    assert plain.sampling.logprobs is None
    assert plain.parallel_tool_calls
    assert plain.overflow == "error"
    assert plain.constraint is None
    assert plain.thinking == Thinking()
    response = repeated()
    assert (response.temperature, response.top_p, response.top_logprobs) == (1.0, 1.0, 0)
    assert (response.tool_choice, response.tools, response.truncation) == ("auto", [], "disabled")
    assert response.text.format.type == "text"
    assert (response.metadata, response.parallel_tool_calls) == ({}, True)
    assert (response.service_tier, response.background) == ("default", False)
    assert response.id == "resp_" + "0" * 32


def test_sampling() -> None:
    sampling = task(
        max_output_tokens=9, temperature=0.5, top_p=0.9, seed=3, top_k=4, stop=["x"], min_p=0.1
    ).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (9, 0.5, 0.9)
    assert (sampling.seed, sampling.top_k, sampling.stop, sampling.min_p) == (3, 4, ("x",), 0.1)


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 3}, 3),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 5}, 5),
        ({"include": ["reasoning.encrypted_content"]}, None),
    ],
)
def test_logprobs(fields: dict[str, Any], logprobs: int | None) -> None:
    assert task(**fields).sampling.logprobs == logprobs


@pytest.mark.parametrize(
    ("format", "constraint"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint(kind="json_object", param="text.format")),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
            Constraint(kind="json_schema", value=SCHEMA, param="text.format.schema"),
        ),
    ],
)
def test_text_format(format: dict[str, Any], constraint: Constraint | None) -> None:
    assert task(text={"format": format}).constraint == constraint
    repeated_format = repeated(text={"format": format, "verbosity": "low"}).text
    assert repeated_format.verbosity == "low"
    assert format.items() <= repeated_format.format.to_dict(mode="json").items()


def test_our_own_constraints_hold_here_too() -> None:
    assert task(guided_regex="a+").constraint == Constraint(
        kind="regex", value="a+", param="guided_regex"
    )
    with pytest.raises(RequestError) as caught:
        task(guided_regex="a+", text={"format": {"type": "json_object"}})
    assert caught.value.param == "guided_regex"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        (
            {"type": "function", "name": "look"},
            ToolChoice(mode="required", names=("look",), is_single=True),
        ),
        (
            {"type": "allowed_tools", "mode": "auto",
             "tools": [{"type": "function", "name": "look"}]},
            ToolChoice(mode="auto", names=("look",)),
        ),
    ],
)  # fmt: skip
def test_tools(choice: Any, expected: ToolChoice) -> None:
    fields: dict[str, Any] = {"tools": [LOOK], "tool_choice": choice}
    asked = task(**fields)
    assert asked.tools == (Tool(name="look", description="d", parameters=SCHEMA),)
    assert asked.tool_choice == expected
    response = repeated(**fields)
    assert response.tools[0].to_dict()["parameters"] == SCHEMA
    if isinstance(choice, dict):
        assert response.tool_choice.to_dict() == choice
    else:
        assert response.tool_choice == (choice or "auto")
    assert not task(**fields, parallel_tool_calls=False).parallel_tool_calls


@pytest.mark.parametrize(
    ("reasoning", "thinking"),
    [
        ({}, Thinking()),
        ({"effort": "none"}, Thinking(enabled=False)),
        ({"effort": "high", "summary": "auto"}, Thinking(enabled=True, effort="high")),
    ],
)
def test_reasoning(reasoning: dict[str, Any], thinking: Thinking) -> None:
    assert task(reasoning=reasoning).thinking == thinking
    assert reasoning.items() <= repeated(reasoning=reasoning).reasoning.to_dict().items()


def test_truncation() -> None:
    assert task(truncation="auto").overflow == "truncate"
    assert repeated(truncation="auto").truncation == "auto"
    assert task(context_length_exceeded_behavior="truncate").overflow == "truncate"
    asked = {"context_length_exceeded_behavior": "truncate", "truncation": "disabled"}
    assert task(**asked).overflow == "error"


@pytest.mark.parametrize(
    ("asked", "served"),
    [("auto", "default"), ("fast", "default"), ("priority", "priority"), ("batch", "flex")],
)
def test_service_tier(asked: str, served: str) -> None:
    assert repeated(service_tier=asked).service_tier == served


def test_what_is_repeated() -> None:
    fields: dict[str, Any] = {
        "instructions": "be brief",
        "max_output_tokens": 7,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
        "previous_response_id": "resp_1",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "user": "u",
        "top_logprobs": 4,
    }
    assert repeated(**fields).to_dict().items() >= fields.items()


def test_what_is_ignored_is_named() -> None:
    request, ignored = parse(
        verbosity="low", reasoning={"mode": "x"}, text={"more": 1, "verbosity": "low"}, image={}
    )
    assert ignored == ["image", "verbosity", "reasoning.mode", "text.more"]
    assert request.unused() == ["text.verbosity"]
