"""instructor: python with_instructor.py BASE_URL MODEL

Models of pydantic filled by a forced tool, by a schema and through the Responses API, whole, in
part while they stream, and one after the other.
"""

import sys
from itertools import islice
from typing import Any, Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field

BASE_URL, MODEL = sys.argv[1:]
ASK = [{"role": "user", "content": "Name the capital of France."}]
PLAN = [{"role": "user", "content": "Ada visits Paris for three days. Write it down."}]
SAME: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 200}


class Visit(BaseModel):
    """Somebody visits a city."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Kyoto", "Nairobi", "Paris"]
    days: int = Field(ge=1, le=7)
    note: str = Field(max_length=20)


class Trip(BaseModel):
    """Visits, one after the other."""

    model_config = ConfigDict(extra="forbid")

    visits: list[Visit] = Field(min_length=1, max_length=2)


def client(mode: instructor.Mode) -> instructor.Instructor:
    return instructor.from_openai(
        OpenAI(base_url=BASE_URL, api_key="none", max_retries=0), mode=mode
    )


def text_and_streaming() -> None:
    plain = client(instructor.Mode.TOOLS)
    asked = {**SAME, "max_tokens": 32, "messages": ASK, "response_model": None}
    text = plain.create(**asked).choices[0].message.content
    assert "Paris" in text, text
    chunks = [c.choices[0].delta.content or "" for c in plain.create(**asked, stream=True)]
    assert "".join(chunks) == text and len(chunks) > 1, chunks


def filled(mode: instructor.Mode) -> None:
    filling = client(mode)
    visit, raw = filling.create_with_completion(
        messages=PLAN, response_model=Visit, max_retries=0, **SAME
    )
    assert isinstance(visit, Visit) and raw.choices[0].finish_reason in ("stop", "tool_calls"), raw
    assert bool(raw.choices[0].message.tool_calls) == (mode is instructor.Mode.TOOLS), raw
    trip = filling.create(messages=PLAN, response_model=Trip, max_retries=0, **SAME)
    assert isinstance(trip, Trip) and isinstance(trip.visits[0], Visit), trip
    growing = list(filling.create_partial(messages=PLAN, response_model=Visit, **SAME))
    assert len(growing) > 1 and growing[0].days is None, growing
    assert growing[-1].model_dump() == visit.model_dump(), growing


def one_after_the_other() -> None:
    visits = client(instructor.Mode.TOOLS).create_iterable(
        messages=PLAN, response_model=Visit, **SAME
    )
    first = list(islice(visits, 1))  # the model would go on to the end of its tokens
    assert first and isinstance(first[0], Visit), first


def through_responses() -> None:
    filling = client(instructor.Mode.RESPONSES_TOOLS)
    visit = filling.create(messages=PLAN, response_model=Visit, max_retries=0, **SAME)
    assert isinstance(visit, Visit), visit


text_and_streaming()
print("text\nstreaming")
filled(instructor.Mode.TOOLS)
one_after_the_other()
print("tools")
filled(instructor.Mode.JSON_SCHEMA)
print("structured output")
through_responses()
print("a tool through responses")
