"""pydantic-ai: python with_pydantic_ai.py BASE_URL MODEL

Agents that answer, stream, call a tool and give structured answers, by a tool and by a schema, on
chat completions and on the Responses API.
"""

import asyncio
import sys
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, RunContext, ToolOutput
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

BASE_URL, MODEL = sys.argv[1:]
ASK = "Name the capital of France."
PLAN = "Ada visits Paris for three days. Write it down."
City = Literal["Kyoto", "Nairobi", "Paris"]


class Visit(BaseModel):
    """Somebody visits a city."""

    city: City
    days: Literal[1, 2, 3]
    is_first: bool


def settings(max_tokens: int = 200, **more: Any) -> ModelSettings:
    return ModelSettings(temperature=0, max_tokens=max_tokens, **more)


async def text_and_streaming(model: Model) -> None:
    agent = Agent(model, instructions="You are helpful.", model_settings=settings(32))
    whole = await agent.run(ASK)
    assert "Paris" in whole.output, whole
    assert whole.usage.output_tokens > 0, whole
    async with agent.run_stream(ASK) as run:
        deltas = [delta async for delta in run.stream_text(delta=True, debounce_by=None)]
        assert run.usage.output_tokens == whole.usage.output_tokens, run.usage
    assert "".join(deltas) == whole.output and len(deltas) > 1, deltas
    after = await agent.run("And of Italy?", message_history=whole.all_messages())
    assert after.output, after


async def tools(model: Model) -> None:
    def choose(context: RunContext[None]) -> ModelSettings:
        """The tool first, then words."""
        choice = "required" if context.run_step <= 1 else "none"
        return settings(tool_choice=choice, parallel_tool_calls=False)

    agent = Agent(model, model_settings=choose)
    calls = []

    @agent.tool_plain
    def weather(city: City, days: Literal[1, 2, 3]) -> str:
        """How the weather in a city will be for some days."""
        calls.append((city, days))
        return f"{city}: sunny for {days} days."

    run = await agent.run("How will the weather in Paris be for three days?")
    parts = [part for message in run.all_messages() for part in message.parts]
    called = [part for part in parts if isinstance(part, ToolCallPart)]
    returned = [part for part in parts if isinstance(part, ToolReturnPart)]
    assert len(calls) == len(called) == 1, parts
    assert [p.tool_call_id for p in called] == [p.tool_call_id for p in returned], parts
    assert [p.args_as_dict() for p in called] == [{"city": c, "days": d} for c, d in calls], parts
    assert isinstance(run.output, str) and run.output, run


async def structured_output(model: Model) -> None:
    for output in (ToolOutput(Visit, name="visit"), NativeOutput(Visit)):
        agent = Agent(model, output_type=output, model_settings=settings(), retries=0)
        visit = (await agent.run(PLAN)).output
        assert isinstance(visit, Visit), visit
        async with agent.run_stream(PLAN) as run:
            assert await run.get_output() == visit, visit


async def everything(model: Model) -> list[str]:
    await text_and_streaming(model)
    await tools(model)
    await structured_output(model)
    return ["text", "streaming", "tools", "structured output"]


async def main() -> None:
    provider = OpenAIProvider(base_url=BASE_URL, api_key="none")
    print("\n".join(await everything(OpenAIChatModel(MODEL, provider=provider))))
    await everything(OpenAIResponsesModel(MODEL, provider=provider))
    print("the same through responses")


asyncio.run(main())
