"""llm: python with_llm.py BASE_URL MODEL

Its Python interface to models named in extra-openai-models.yaml, of chat completions and of the
Responses API. It can not force a tool, so the tool may or may not be used.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import llm
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
    assert "".join(chunks) == whole.text() and len(chunks) > 3, chunks
    assert streamed.usage().output == whole.usage().output > 0, streamed.usage()
    talk = model.conversation()
    assert talk.prompt(ASK, **options).text() == whole.text()
    assert talk.prompt("And of Italy?", **options).text()


def tools(model: Any) -> None:
    calls.clear()
    ask = "How will the weather in Paris be for three days? Use the tool."
    options = {"temperature": 0, "max_tokens": 64}
    chain = model.chain(ask, tools=[weather], options=options)
    responses = list(chain.responses())
    made = [call for response in responses for call in response.tool_calls()]
    assert [(c.arguments["city"], c.arguments["days"]) for c in made] == calls, made
    assert all(city in CITIES and isinstance(days, int) for city, days in calls), calls
    assert responses[-1].text() or made, responses


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
