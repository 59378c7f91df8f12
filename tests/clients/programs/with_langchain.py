"""langchain-openai: python with_langchain.py BASE_URL MODEL

Chats, streams, tools and structured answers, on chat completions and on the Responses API.
"""

import sys
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict, Field

BASE_URL, MODEL = sys.argv[1:]
ASK = "Name the capital of France."
PLAN = "Ada visits Paris for three days. Write it down."
City = Literal["Kyoto", "Nairobi", "Paris"]


class Visit(BaseModel):
    """Somebody visits a city."""

    model_config = ConfigDict(extra="forbid")

    city: City
    days: int = Field(ge=1, le=7)
    guests: list[Literal["Ada", "Ben"]] = Field(max_length=2)
    note: str = Field(max_length=20)


@tool
def weather(city: City, days: Annotated[int, Field(ge=1, le=7)]) -> str:
    """How the weather in a city will be for some days."""
    return f"{city}: sunny for {days} days."


def model(**options: Any) -> ChatOpenAI:
    options = {"temperature": 0, "max_tokens": 200, "stream_usage": True, **options}
    return ChatOpenAI(base_url=BASE_URL, api_key="none", model=MODEL, max_retries=0, **options)


def text_and_streaming(**options: Any) -> None:
    chat = model(max_tokens=32, **options)
    answer = chat.invoke(ASK)
    assert isinstance(answer, AIMessage) and "Paris" in answer.text, answer
    assert answer.usage_metadata and answer.usage_metadata["output_tokens"] > 0, answer
    chunks = list(chat.stream(ASK))
    assert "".join(chunk.text for chunk in chunks) == answer.text, chunks
    assert sum(1 for chunk in chunks if chunk.text) > 1, chunks
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [u["output_tokens"] for u in usages] == [answer.usage_metadata["output_tokens"]], usages


def tools(**options: Any) -> None:
    chat = model(**options)
    asked: list[Any] = [HumanMessage("How will the weather in Paris be for three days?")]
    for choice in ("weather", "required"):
        forced = chat.bind_tools([weather], tool_choice=choice, parallel_tool_calls=False)
        called = forced.invoke(asked)
        (call,) = called.tool_calls
        assert call["name"] == "weather" and call["id"], call
        result = weather.invoke(call)
        assert isinstance(result, ToolMessage) and "sunny" in result.content, result
    total = None
    for chunk in forced.stream(asked):
        total = chunk if total is None else total + chunk
    assert [c["args"] for c in total.tool_calls] == [call["args"]], total
    final = chat.bind_tools([weather], tool_choice="none").invoke([*asked, called, result])
    assert final.text and not final.tool_calls, final


def structured_output(**options: Any) -> None:
    chat = model(**options)
    for method in ("json_schema", "function_calling"):
        visit = chat.with_structured_output(Visit, method=method).invoke(PLAN)
        assert isinstance(visit, Visit), visit
    as_json = chat.with_structured_output(Visit.model_json_schema(), method="json_schema")
    growing = list(as_json.stream(PLAN))
    assert len(growing) > 1, growing
    assert growing[-1] == as_json.invoke(PLAN), growing
    Visit.model_validate(growing[-1])


text_and_streaming()
print("text\nstreaming")
tools()
print("tools")
structured_output()
print("structured output")
responses = {"use_responses_api": True}
text_and_streaming(**responses)
tools(**responses)
structured_output(**responses)
print("the same through responses")
