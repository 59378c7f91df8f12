"""llm: python with_llm.py BASE_URL MODEL

Its Python interface to models named in extra-openai-models.yaml, of chat completions and of the
Responses API.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import llm
from llm.parts import ToolCallPart, ToolResultPart
from pydantic import BaseModel, ConfigDict, Field

BASE_URL, MODEL = sys.argv[1:]
ASK = "Name the capital of France."
PLAN = "Ada visits Paris for three days. Write it down."
CITIES = ["Kyoto", "Nairobi", "Paris"]

folder = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = folder.name
both = {"model_name": MODEL, "api_base": BASE_URL, "supports_schema": True, "supports_tools": True}
entries = [
    {"model_id": "by-chat", **both},
    {"model_id": "by-responses", "responses": True, **both},
]
# JSON is YAML too.
Path(folder.name, "extra-openai-models.yaml").write_text(json.dumps(entries))


class Visit(BaseModel):
    """Somebody visits a city."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Kyoto", "Nairobi", "Paris"]
    days: int = Field(ge=1, le=7)
    note: str = Field(max_length=20)


calls: list[tuple[str, int]] = []


def weather(city: Literal["Kyoto", "Nairobi", "Paris"], days: int) -> str:
    """How the weather in a city will be for some days."""
    calls.append((city, days))
    return f"{city}: sunny for {days} days."


def text_and_streaming(model: Any) -> None:
    options = {"temperature": 0, "max_tokens": 32}
    whole = model.prompt(ASK, stream=False, **options)
    assert "Paris" in whole.text(), whole
    streamed = model.prompt(ASK, **options)
    chunks = list(streamed)
    assert "".join(chunks) == whole.text() and len(chunks) > 1, chunks
    assert streamed.usage().output == whole.usage().output > 0, streamed.usage()
    talk = model.conversation()
    assert talk.prompt(ASK, **options).text() == whole.text()
    assert talk.prompt("And of Italy?", **options).text()


def shown() -> list[Any]:
    """A conversation in which the tool was used. llm can not force a tool, and a small model uses
    one if it was done so before."""
    messages = []
    for i, (city, days) in enumerate([("Kyoto", 2), ("Nairobi", 5), ("Kyoto", 4), ("Nairobi", 6)]):
        made = {"name": "weather", "tool_call_id": f"call_{i}"}
        arguments = {"city": city, "days": days}
        messages += [
            llm.user(f"The weather in {city} for {days} days?"),
            llm.assistant(ToolCallPart(arguments=arguments, **made)),
            llm.tool_message(ToolResultPart(output=f"{city}: sunny for {days} days.", **made)),
            llm.assistant(f"It will be sunny in {city}."),
        ]
    return messages


def tools(model: Any) -> None:
    calls.clear()
    messages = [*shown(), llm.user("The weather in Paris for 3 days?")]
    options = {"temperature": 0, "max_tokens": 64}
    chain = model.chain(messages=messages, tools=[weather], options=options)
    first, *others = chain.responses()
    (call,) = first.tool_calls()
    assert call.name == "weather" and call.tool_call_id, call
    assert calls == [(call.arguments["city"], call.arguments["days"])], calls
    assert call.arguments["city"] in CITIES and isinstance(call.arguments["days"], int), call
    assert others and others[-1].text() and not others[-1].tool_calls(), others


def structured_output(model: Any) -> None:
    options = {"temperature": 0, "max_tokens": 200}
    visit = Visit.model_validate_json(model.prompt(PLAN, schema=Visit, **options).text())
    whole = model.prompt(PLAN, schema=Visit, stream=False, **options).text()
    assert Visit.model_validate_json(whole) == visit, whole


for name in ("by-chat", "by-responses"):
    model = llm.get_model(name)
    text_and_streaming(model)
    tools(model)
    structured_output(model)
    print("text\nstreaming\ntools\nstructured output" if name == "by-chat" else "by responses")
