"""An answer as it streams, understood: thought, text, and calls of tools.

Owns the events that every API family words in its own way, and their order. Knows no API.
Invariant: however the model's text is cut into pieces, the texts of the events joined are the same.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallOpened:
    """The model calls a tool. Calls are numbered from 0; its arguments follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of a call's arguments, which joined are JSON text."""

    index: int
    text: str


Event = Reasoning | Content | CallOpened | CallArguments


class AnswerReader(Protocol):
    """Reads one answer. After `finish` nothing is pushed any more."""

    def push(self, text: str) -> list[Event]:
        """The events that the next piece of text makes certain."""

    def finish(self) -> list[Event]:
        """What was held back; the answer has ended."""


class PlainReader:
    """An answer that is nothing but text."""

    def push(self, text: str) -> list[Event]:
        return [Content(text)] if text else []

    def finish(self) -> list[Event]:
        return []
