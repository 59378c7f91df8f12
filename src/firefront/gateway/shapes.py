"""What chat and completions have in common: a choice that grows, and the two ways to give it out.

Owns the collecting of a whole answer and the order of chunks in a stream; the two endpoints supply
the words (`Shape`). Knows nothing of HTTP.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from firefront.core.messages import Logprob
from firefront.gateway.fields import StreamOptions
from firefront.gateway.generate import Generation, Growth
from firefront.gateway.json_out import dumps
from firefront.text.answer import CallArguments, CallOpened, Content, Reasoning

Json = dict[str, Any]
Keep = Callable[[Json], Awaitable[None]]  # keeps a whole answer


@dataclass
class Call:
    """A call of a tool so far."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass
class Choice:
    """One sequence's output so far."""

    index: int
    reasoning: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    prompt_logprobs: list[Logprob] = field(default_factory=list)
    finish: str | None = None
    stop_reason: str | int | None = None

    def add(self, growth: Growth) -> None:
        for event in growth.events:
            match event:
                case Content():
                    self.texts.append(event.text)
                case Reasoning():
                    self.reasoning.append(event.text)
                case CallOpened():
                    self.calls.append(Call(event.id, event.name))
                case CallArguments():
                    self.calls[event.index].arguments.append(event.text)
        delta = growth.delta
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs or ()
        self.prompt_logprobs += delta.prompt_logprobs or ()
        self.finish, self.stop_reason = growth.finish, delta.stop_reason


class Shape(Protocol):
    """How one endpoint words an answer."""

    def envelope(self, *, chunk: bool) -> Json:
        """id, object, created, model: what a whole answer and every chunk begin with."""

    def answer(self, choices: list[Choice]) -> Json:
        """The whole answer."""

    def opening(self, index: int) -> Json | None:
        """What a stream says of a choice before anything else."""

    def growth(self, growth: Growth) -> list[Json]:
        """What a growth adds to a choice, the last word on it included."""

    def last_fields(self) -> Json:
        """What the chunk that ends a choice says beside its choice."""


async def collect(generation: Generation) -> list[Choice]:
    """Run to the end; all choices."""
    choices = [Choice(index) for index in range(generation.num_sequences)]
    async for grown in generation.growths():
        for item in grown:
            if isinstance(item, int):
                choices[item] = Choice(item)
            else:
                choices[item.index].add(item)
    return choices


async def stream(
    generation: Generation,
    shape: Shape,
    options: StreamOptions,
    keep: Keep | None = None,
) -> AsyncIterator[bytes]:
    """Run to the end; server-sent events, everything that has arrived in one piece. Whoever has
    seen the last of them finds the answer kept."""
    envelope = shape.envelope(chunk=True)
    opened: set[int] = set()
    choices = [Choice(index) for index in range(generation.num_sequences)]

    def event(parts: list[Json], usage: Json | None) -> bytes:
        chunk = {**envelope, "choices": parts}
        if parts and parts[0]["finish_reason"] is not None:
            chunk |= shape.last_fields()
        if options.include_usage or usage is not None:
            chunk["usage"] = usage
        return b"data: " + dumps(chunk) + b"\n\n"

    async for grown in generation.growths():
        usage = generation.usage() if options.continuous_usage_stats else None
        events = []
        for item in grown:
            if isinstance(item, int):
                continue  # nothing of it was sent
            if keep is not None:
                choices[item.index].add(item)
            if item.index not in opened:
                opened.add(item.index)
                if (opening := shape.opening(item.index)) is not None:
                    events.append(event([opening], usage))
            events += [event([part], usage) for part in shape.growth(item)]
        if events:
            yield b"".join(events)
    if keep is not None:
        await keep(shape.answer(choices))
    last = event([], generation.usage()) if options.include_usage else b""
    yield last + b"data: [DONE]\n\n"
