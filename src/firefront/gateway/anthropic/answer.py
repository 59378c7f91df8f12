"""An answer in Anthropic's content blocks, growing: the one source of whole answers and streams.

Owns the order of blocks and what each says. Knows nothing of server-sent events. Invariant: blocks
are opened one after another, and what their steps say, added up, is what they hold at the end.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic_core

from firefront.gateway.generate import Generation, Growth
from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning

Json = dict[str, Any]


@dataclass
class Block:
    """One block so far. `id` and `name` are those of a tool_use."""

    kind: Literal["text", "thinking", "tool_use"]
    id: str = ""
    name: str = ""
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text, the thought, or the JSON text of the tool's input."""
        return "".join(self.texts)

    @property
    def signature(self) -> str:
        """What a client must send back with a thought. Nothing is kept, so nothing is verified."""
        return "ff_" + hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()[:40]

    def opening(self) -> Json:
        """The block as it is before anything was said."""
        match self.kind:
            case "text":
                return {"type": "text", "text": "", "citations": None}
            case "thinking":
                return {"type": "thinking", "thinking": "", "signature": ""}
            case "tool_use":
                return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}

    def whole(self) -> Json:
        """The block with all that was said."""
        match self.kind:
            case "text":
                return {**self.opening(), "text": self.text}
            case "thinking":
                said = {"thinking": self.text, "signature": self.signature}
                return {**self.opening(), **said}
            case "tool_use":
                return {**self.opening(), "input": _object(self.text)}


@dataclass(frozen=True)
class Opened:
    index: int
    block: Block


@dataclass(frozen=True)
class Grew:
    index: int
    block: Block
    text: str


@dataclass(frozen=True)
class Closed:
    index: int
    block: Block


Step = Opened | Grew | Closed


class Answer:
    """The content blocks of one answer. `hides_thoughts`: thinking blocks stay empty."""

    def __init__(self, *, hides_thoughts: bool = False) -> None:
        self.blocks: list[Block] = []
        self.finish: str | None = None  # stop, length or tool_calls
        self.stop: str | int | None = None  # what was found, of those that the client sent
        self._hides_thoughts = hides_thoughts
        self._is_open = False

    def grow(self, growth: Growth) -> list[Step]:
        """What an arrival adds, its end included."""
        steps = [step for event in growth.events for step in self._add(event)]
        if growth.finish is not None:
            self.finish, self.stop = growth.finish, growth.delta.stop_reason
            steps += self._close()
        return steps

    def content(self) -> list[Json]:
        """All blocks, whole."""
        return [block.whole() for block in self.blocks]

    def _add(self, event: Event) -> Iterable[Step]:
        match event:
            case Content():
                yield from self._say("text", event.text)
            case Reasoning():
                yield from self._say("thinking", event.text)
            case CallOpened():
                yield from self._open(Block("tool_use", event.id, event.name))
            case CallArguments():
                assert self._is_open and self.blocks[-1].kind == "tool_use"
                yield from self._extend(event.text)

    def _say(self, kind: Literal["text", "thinking"], text: str) -> Iterable[Step]:
        if not text:
            return
        if not self._is_open or self.blocks[-1].kind != kind:
            yield from self._open(Block(kind))
        if kind == "text" or not self._hides_thoughts:
            yield from self._extend(text)

    def _open(self, block: Block) -> Iterable[Step]:
        yield from self._close()
        self.blocks.append(block)
        self._is_open = True
        yield Opened(len(self.blocks) - 1, block)

    def _extend(self, text: str) -> Iterable[Step]:
        if text:
            block = self.blocks[-1]
            block.texts.append(text)
            yield Grew(len(self.blocks) - 1, block, text)

    def _close(self) -> list[Step]:
        if not self._is_open:
            return []
        self._is_open = False
        return [Closed(len(self.blocks) - 1, self.blocks[-1])]


class MessageShape:
    """The words of a Message around its content. `max_tokens` is what the client asked for."""

    def __init__(self, message_id: str, generation: Generation, max_tokens: int) -> None:
        self._id = message_id
        self._generation = generation
        self._max_tokens = max_tokens

    def message(self, answer: Answer | None) -> Json:
        """The message; None: as it is before anything was said."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._generation.model.name,
            "content": [] if answer is None else answer.content(),
            **self.stop(answer),
            "container": None,
            "usage": {
                **self.usage(),
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 0,
                    "ephemeral_1h_input_tokens": 0,
                },
                "service_tier": "standard",
            },
        }

    def stop(self, answer: Answer | None) -> Json:
        """Why it ended."""
        reason = None if answer is None else self._reason(answer)
        found = answer.stop if answer is not None and reason == "stop_sequence" else None
        return {"stop_reason": reason, "stop_sequence": found, "stop_details": None}

    def usage(self) -> Json:
        """Tokens so far. Writing to the cache costs nothing, so no token is counted as written."""
        usage = self._generation.usage()
        num_cached = usage["prompt_tokens_details"]["cached_tokens"]
        num_thinking = usage["completion_tokens_details"]["reasoning_tokens"]
        return {
            "input_tokens": usage["prompt_tokens"] - num_cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": num_cached,
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"thinking_tokens": num_thinking},
        }

    def _reason(self, answer: Answer) -> str:
        if answer.finish == "tool_calls":
            return "tool_use"
        if answer.finish == "length":
            room = self._generation.prompts[0].sampling.max_tokens
            is_cut = room is not None and room < self._max_tokens
            return "model_context_window_exceeded" if is_cut else "max_tokens"
        return "stop_sequence" if isinstance(answer.stop, str) else "end_turn"


def _object(text: str) -> Json:
    """The input in `text`, which max_tokens may have cut anywhere: as much of it as is certain."""
    try:
        value = pydantic_core.from_json(text, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
