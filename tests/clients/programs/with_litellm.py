"""litellm, as a client: python with_litellm.py BASE_URL MODEL

completion() with its openai provider, its responses(), and its interface of Anthropic's messages.
"""

import asyncio
import json
import os
import sys
from typing import Any, Literal

os.environ["LITELLM_OFFLINE_MODE"] = "true"  # it would fetch lists of prices

import litellm
from pydantic import BaseModel, ConfigDict, Field

BASE_URL, MODEL = sys.argv[1:]
ASK = [{"role": "user", "content": "Name the capital of France."}]
PLAN = [{"role": "user", "content": "Ada visits Paris for three days. Write it down."}]
CITIES = ["Kyoto", "Nairobi", "Paris"]
AT: dict[str, Any] = {"api_base": BASE_URL, "api_key": "none", "num_retries": 0}
SAME: dict[str, Any] = {"model": f"openai/{MODEL}", "temperature": 0, "max_tokens": 200, **AT}
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"enum": CITIES},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "How the weather in a city will be for some days."}
TOOL = {"type": "function", "function": {**WEATHER, "parameters": PARAMETERS}}
FORCED = {"type": "function", "function": {"name": "weather"}}


class Visit(BaseModel):
    """Somebody visits a city."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Kyoto", "Nairobi", "Paris"]
    days: int = Field(ge=1, le=7)
    note: str = Field(max_length=20)


def fits(arguments: str | dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, which must be those of the tool."""
    values = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert values.keys() == {"city", "days"} and values["city"] in CITIES, values
    assert values["days"] in range(1, 8), values
    return values


def text_and_streaming() -> None:
    asked = {**SAME, "max_tokens": 32, "messages": ASK}
    whole = litellm.completion(**asked)
    text = whole.choices[0].message.content
    assert "Paris" in text and whole.usage.completion_tokens > 0, whole
    options = {"include_usage": True}
    chunks = list(litellm.completion(**asked, stream=True, stream_options=options))
    assert len(chunks) > 1, chunks
    built = litellm.stream_chunk_builder(chunks, messages=ASK)
    assert built.choices[0].message.content == text, built
    assert built.choices[0].finish_reason == whole.choices[0].finish_reason, built
    assert built.usage.completion_tokens == whole.usage.completion_tokens, built


def tools() -> None:
    ask = [{"role": "user", "content": "How will the weather in Paris be for three days?"}]
    asked = {**SAME, "tools": [TOOL], "messages": ask}
    message = litellm.completion(**asked, tool_choice=FORCED).choices[0].message
    (call,) = message.tool_calls
    arguments = fits(call.function.arguments)
    chunks = list(litellm.completion(**asked, tool_choice=FORCED, stream=True))
    built = litellm.stream_chunk_builder(chunks).choices[0]
    assert fits(built.message.tool_calls[0].function.arguments) == arguments, built
    result = f"{arguments['city']}: sunny for {arguments['days']} days."
    told = [*ask, message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    final = litellm.completion(**{**asked, "messages": told}, tool_choice="none").choices[0]
    assert final.message.content and not final.message.tool_calls, final


def structured_output() -> None:
    asked = {**SAME, "messages": PLAN, "response_format": Visit}
    text = litellm.completion(**asked).choices[0].message.content
    visit = Visit.model_validate_json(text)
    chunks = litellm.completion(**asked, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert Visit.model_validate_json(said) == visit, said


def other_interfaces() -> None:
    asked: dict[str, Any] = {"model": f"openai/{MODEL}", "temperature": 0, **AT}
    answer = litellm.responses(input=ASK, max_output_tokens=32, **asked)
    assert "Paris" in answer.output_text, answer
    complete = litellm.text_completion(
        prompt="The capital of France is", max_tokens=8, **asked
    )
    assert complete.choices[0].text, complete
    anthropic = {**AT, "model": f"anthropic/{MODEL}", "api_base": BASE_URL.removesuffix("/v1")}
    create = litellm.anthropic.messages.acreate(messages=ASK, max_tokens=32, **anthropic)
    message = asyncio.run(create)
    assert message["content"][0]["text"], message


text_and_streaming()
print("text\nstreaming")
tools()
print("tools")
structured_output()
print("structured output")
other_interfaces()
print("responses, completions and messages")
