"""The stream of a response: numbered events, as server-sent ones.

Knows which events begin and end a response; those between come from `output`. Invariant: an event's
number is its place in the stream, so a reader who says the last one he saw can go on after it.
"""

from collections.abc import Iterable
from typing import Any

from firefront.core.errors import FirefrontError, RequestError
from firefront.gateway.json_out import dumps
from firefront.gateway.responses.output import retold

Json = dict[str, Any]


class Numbering:
    """Numbers events and words them for the wire."""

    def __init__(self) -> None:
        self._next = 0

    def frames(self, events: Iterable[Json]) -> list[bytes]:
        """One server-sent event for each."""
        return [self._frame(event) for event in events]

    def _frame(self, event: Json) -> bytes:
        name: str = event["type"]
        numbered = {"type": name, "sequence_number": self._next, **event}
        self._next += 1
        return b"event: " + name.encode() + b"\ndata: " + dumps(numbered) + b"\n\n"


def beginning(response: Json) -> list[Json]:
    """What a stream says first; `response` is in progress."""
    return [lifecycle("created", response), lifecycle("in_progress", response)]


def lifecycle(what: str, response: Json) -> Json:
    return {"type": f"response.{what}", "response": response}


def ending(response: Json) -> Json:
    """The last event of a response that has ended. There is none for one that was cancelled: its
    stream ends as an incomplete one's, and the response says why."""
    status = response["status"]
    return lifecycle("incomplete" if status == "cancelled" else status, response)


def error_event(error: FirefrontError) -> Json:
    """What goes before response.failed."""
    return {
        "type": "error",
        "code": error.code or error.type,
        "message": error.message,
        "param": error.param,
    }


def replay(response: Json, starting_after: int | None) -> list[bytes]:
    """The stream of a response that has ended, told again after an event's number.

    Each text comes in one piece, so the numbers are those of the first telling up to the first
    piece of text only; RequestError for a later one.
    """
    begun = {**response, "status": "in_progress", "completed_at": None, "error": None}
    begun |= {"incomplete_details": None, "output": [], "usage": None}
    events = [*beginning(begun), *retold(response["output"]), ending(response)]
    first = 0 if starting_after is None else starting_after + 1
    deltas = (i for i, event in enumerate(events) if event["type"].endswith(".delta"))
    if first > next(deltas, len(events) - 1):
        where = "starting_after"
        raise RequestError(
            f"{where}: the pieces in which the text came are no longer known; leave it out",
            param=where,
        )
    return Numbering().frames(events)[first:]
