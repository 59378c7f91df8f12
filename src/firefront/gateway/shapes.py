"""What chat and completions have in common: a choice that grows, and the two ways to give it out.

Owns the collecting of a whole answer and the order of chunks in a stream; the two endpoints supply
the words (`Shape`). Knows nothing of HTTP.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from firefront.core.messages import Delta, Logprob
from firefront.fleet.mailbox import Restarted
from firefront.gateway.generate import Generation
from firefront.gateway.json_out import dumps

Json = dict[str, Any]


@dataclass
class Choice:
    """One sequence's output so far."""

    index: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    prompt_logprobs: list[Logprob] = field(default_factory=list)
    finish: str | None = None
    stop_reason: str | int | None = None

    def add(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        self.logprobs += delta.logprobs or ()
        self.prompt_logprobs += delta.prompt_logprobs or ()
        self.finish, self.stop_reason = delta.finish, delta.stop_reason


class Shape(Protocol):
    """How one endpoint words an answer."""

    def envelope(self, *, chunk: bool) -> Json:
        """id, object, created, model: what a whole answer and every chunk begin with."""

    def whole(self, choice: Choice) -> Json:
        """A finished choice."""

    def opening(self, index: int) -> Json | None:
        """What a stream says of a choice before anything else."""

    def growth(self, index: int, delta: Delta) -> Json | None:
        """What a delta adds to a choice; None when it adds nothing to see."""

    def closing(self, index: int, delta: Delta) -> Json | None:
        """The last word on a choice; None if `growth` has said it."""


async def collect(generation: Generation, shape: Shape) -> bytes:
    """Run to the end; the whole answer as JSON."""
    choices = [Choice(index) for index in range(generation.num_sequences)]
    async for items in generation.items():
        for index, item in items:
            if isinstance(item, Restarted):
                choices[index] = Choice(index)
            else:
                choices[index].add(item)
    return dumps(
        {
            **shape.envelope(chunk=False),
            "choices": [shape.whole(choice) for choice in choices],
            "usage": generation.usage(),
        }
    )


async def stream(
    generation: Generation, shape: Shape, *, include_usage: bool, continuous_usage: bool
) -> AsyncIterator[bytes]:
    """Run to the end; server-sent events, everything that has arrived in one piece."""
    envelope = shape.envelope(chunk=True)
    opened: set[int] = set()

    def event(choices: list[Json], usage: Json | None) -> bytes:
        chunk = {**envelope, "choices": choices}
        if include_usage or usage is not None:
            chunk["usage"] = usage
        return b"data: " + dumps(chunk) + b"\n\n"

    async for items in generation.items():
        usage = generation.usage() if continuous_usage else None
        events = []
        for index, item in items:
            if isinstance(item, Restarted):
                continue  # nothing of it was sent
            parts = [] if index in opened else [shape.opening(index)]
            opened.add(index)
            parts.append(shape.growth(index, item))
            if item.finish is not None:
                parts.append(shape.closing(index, item))
            events += [event([part], usage) for part in parts if part is not None]
        if events:
            yield b"".join(events)
    last = event([], generation.usage()) if include_usage else b""
    yield last + b"data: [DONE]\n\n"
