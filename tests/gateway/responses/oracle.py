"""The official SDK as judge of events: each is one of its types, and its accumulator can follow."""

import json
from collections.abc import Iterable
from typing import Any

import pydantic
from openai import Stream, omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
MADE = ("id", "created_at", "completed_at", "item_id", "call_id")  # differ from run to run


def parse_frames(data: bytes) -> list[dict[str, Any]]:
    """Server-sent events as objects, after checking their form and their numbers."""
    events = []
    for block in data.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name, data_line = lines
        event = json.loads(data_line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return events


def judged(events: Iterable[dict[str, Any]]) -> Response:
    """What the SDK's accumulator makes of a whole stream."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for number, event in enumerate(events):
        typed = _EVENT.validate_python({"sequence_number": number, **event})
        assert type(typed).model_fields["type"].annotation.__args__ == (event["type"],)
        state.handle_event(typed)
    assert state._completed_response is not None
    return state._completed_response


def same(value: Any) -> Any:
    """A response without what differs from run to run."""
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return {key: same(inner) for key, inner in value.items() if key not in MADE}
    return [same(inner) for inner in value] if isinstance(value, list) else value


def last_response(stream: Stream[Any]) -> tuple[list[Any], Any]:
    """A stream's events, and the response of its last one."""
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events, events[-1].response
