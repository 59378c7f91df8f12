"""The OpenAI Agents SDK: python with_agents.py BASE_URL MODEL

Agents that answer, stream, call a tool and give a structured answer, on the Responses API (which
is the SDK's default) and on chat completions.
"""

import asyncio
import sys
from typing import Any, Literal

from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel, Field

BASE_URL, MODEL = sys.argv[1:]
ASK = "Name the capital of France."
PLAN = "Ada visits Paris for three days. Write it down."
City = Literal["Kyoto", "Nairobi", "Paris"]

set_tracing_disabled(True)


class Visit(BaseModel):
    """Somebody visits a city."""

    city: City
    days: int = Field(ge=1, le=7)
    guests: list[Literal["Ada", "Ben"]] = Field(max_length=2)


calls: list[tuple[str, int]] = []


@function_tool
def weather(city: City, days: Literal[1, 2, 3]) -> str:
    """How the weather in a city will be for some days."""
    calls.append((city, days))
    return f"{city}: sunny for {days} days."


def agent(model: Model, max_tokens: int = 200, **options: Any) -> Agent:
    settings = {"temperature": 0.0, "max_tokens": max_tokens, **options.pop("settings", {})}
    return Agent("guide", model=model, model_settings=ModelSettings(**settings), **options)


async def deltas(run: Any) -> list[str]:
    """What a streamed run said, as it said it."""
    said = []
    async for event in run.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            said.append(event.data.delta)
    return said


async def text_and_streaming(model: Model) -> None:
    speaker = agent(model, instructions="You are a helpful assistant.", max_tokens=32)
    whole = await Runner.run(speaker, ASK)
    assert "Paris" in whole.final_output, whole
    usage = whole.context_wrapper.usage
    assert usage.input_tokens > 0 and usage.output_tokens > 0, usage
    streamed = Runner.run_streamed(speaker, ASK)
    said = await deltas(streamed)
    assert "".join(said) == streamed.final_output == whole.final_output, said
    assert len(said) > 1, said
    history = [*whole.to_input_list(), {"role": "user", "content": "And of Italy?"}]
    assert (await Runner.run(speaker, history)).final_output


async def goes_on_from_what_is_stored(model: Model) -> None:
    speaker = agent(model, max_tokens=32)
    first = await Runner.run(speaker, ASK)
    assert first.last_response_id, first
    second = await Runner.run(
        speaker, "And of Italy?", previous_response_id=first.last_response_id
    )
    written_out = [*first.to_input_list(), {"role": "user", "content": "And of Italy?"}]
    assert second.final_output == (await Runner.run(speaker, written_out)).final_output


async def tools(model: Model) -> None:
    calls.clear()
    forced = {"tool_choice": "required", "parallel_tool_calls": False}
    ask = "How will the weather in Paris be for three days?"
    caller = agent(
        model, tools=[weather], settings=forced, tool_use_behavior="stop_on_first_tool"
    )
    run = await Runner.run(caller, ask)
    ((city, days),) = calls
    assert run.final_output == f"{city}: sunny for {days} days.", run
    streamed = Runner.run_streamed(caller, ask)
    await deltas(streamed)
    assert streamed.final_output == run.final_output and len(calls) == 2, streamed
    # The agent that was given the result is asked to say it in its own words.
    speaker = agent(model, tools=[weather], settings={"tool_choice": "none"}, max_tokens=48)
    told = [*run.to_input_list(), {"role": "user", "content": "Say that again."}]
    assert (await Runner.run(speaker, told)).final_output
    assert len(calls) == 2, calls


async def structured_output(model: Model) -> None:
    planner = agent(model, output_type=Visit)
    visit = (await Runner.run(planner, PLAN)).final_output
    assert isinstance(visit, Visit), visit
    streamed = Runner.run_streamed(planner, PLAN)
    said = await deltas(streamed)
    assert streamed.final_output == visit == Visit.model_validate_json("".join(said)), said


async def main() -> None:
    client = AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    responses = OpenAIResponsesModel(model=MODEL, openai_client=client)
    chat = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    await text_and_streaming(responses)
    await goes_on_from_what_is_stored(responses)
    print("text\nstreaming")
    await tools(responses)
    print("tools")
    await structured_output(responses)
    print("structured output")
    await text_and_streaming(chat)
    await tools(chat)
    await structured_output(chat)
    print("the same through chat completions")


asyncio.run(main())
