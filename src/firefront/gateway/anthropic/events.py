"""The server-sent events of a streamed Message, each with the name that its clients wait for.

Knows their order and nothing of how an answer grows.
"""

from collections.abc import AsyncIterator, Callable, Iterable

from firefront.gateway.anthropic.answer import (
    Answer,
    Closed,
    Grew,
    Json,
    MessageShape,
    Opened,
    Step,
)
from firefront.gateway.generate import Generation
from firefront.gateway.json_out import dumps

_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


def event(name: str, **fields: Json | int) -> bytes:
    """One event: its name stands beside its data and in it."""
    data = dumps({"type": name, **fields})
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


PING = event("ping")


async def stream(
    generation: Generation, shape: MessageShape, new_answer: Callable[[], Answer]
) -> AsyncIterator[bytes]:
    """Run to the end; everything that has arrived in one piece."""
    answer, begun, pinged = new_answer(), False, False
    async for grown in generation.growths():
        events = []
        for item in grown:
            if isinstance(item, int):
                answer = new_answer()  # nothing of it was sent
                continue
            if not begun:
                begun = True
                events.append(event("message_start", message=shape.message(None)))
            for step in answer.grow(item):
                events += _words(step)
                if isinstance(step, Opened) and not pinged:
                    pinged = True
                    events.append(PING)
        if events:
            yield b"".join(events)
    last = event("message_delta", delta=shape.stop(answer), usage=shape.usage())
    yield last + event("message_stop")


def _words(step: Step) -> Iterable[bytes]:
    match step:
        case Opened(index, block):
            yield event("content_block_start", index=index, content_block=block.opening())
        case Grew(index, block, text):
            kind, name = _DELTAS[block.kind]
            yield event("content_block_delta", index=index, delta={"type": kind, name: text})
        case Closed(index, block):
            if block.kind == "thinking":
                delta = {"type": "signature_delta", "signature": block.signature}
                yield event("content_block_delta", index=index, delta=delta)
            yield event("content_block_stop", index=index)
