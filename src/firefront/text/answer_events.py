"""What a reader finds in an answer, made into events.

Owns the numbering and the ids of calls, and the white space between text and calls, which belongs
to neither. Knows no format.
"""

import secrets
from collections.abc import Callable

from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning
from firefront.text.incoming import WHITE_SPACE


def new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


class AnswerEvents:
    """Takes pieces of one answer in order. `beside_calls`: white space at the edge of a call is
    the format's, so it is held back until it is known what follows."""

    def __init__(self, *, beside_calls: bool, new_id: Callable[[], str] = new_call_id) -> None:
        self._beside_calls = beside_calls
        self._new_id = new_id
        self._events: list[Event] = []
        self._pieces: list[str] = []  # of one event that still grows
        self._make: Callable[[str], Event] | None = None
        self._kind: object = None
        self._space: list[str] = []
        self._has_text = self._is_after_call = self._is_thinking = False
        self._num_calls = 0
        self._is_open = self._has_arguments = False

    def drain(self) -> list[Event]:
        """What is certain since the last time."""
        self._close_run()
        events, self._events = self._events, []
        return events

    def content(self, text: str) -> None:
        self.close_call()
        if not self._beside_calls:
            self._grow("content", Content, text)
            return
        kept = text.rstrip(WHITE_SPACE)
        tail = text[len(kept) :]
        if kept:
            if self._is_after_call and not self._has_text:
                self._space, kept = [], kept.lstrip(WHITE_SPACE)
            self._grow("content", Content, self._taken_space() + kept)
            self._has_text, self._is_after_call = True, False
        self._space.append(tail)

    def reasoning(self, text: str) -> None:
        """A piece of thought; ends of lines at its end are not part of it."""
        kept = text.rstrip("\r\n")
        if kept:
            self._grow("reasoning", Reasoning, self._taken_space() + kept)
        self._space.append(text[len(kept) :])
        self._is_thinking = True

    def end_reasoning(self) -> None:
        """What follows is the answer."""
        self._space, self._is_thinking = [], False

    def open_call(self, name: str) -> None:
        self.close_call()
        if not self._has_text:
            self._space = []
        self._close_run()
        self._events.append(CallOpened(self._num_calls, self._new_id(), name))
        self._num_calls += 1
        self._is_open, self._has_arguments, self._is_after_call = True, False, True

    def arguments(self, text: str) -> None:
        """A piece of the open call's arguments."""
        index = self._num_calls - 1
        self._has_arguments = self._has_arguments or bool(text)
        self._grow(index, lambda piece: CallArguments(index, piece), text)

    def close_call(self) -> None:
        """The open call, if there is one, is complete."""
        if self._is_open and not self._has_arguments:
            self.arguments("{}")
        self._is_open = False

    def finish(self) -> None:
        """The answer has ended."""
        self.close_call()
        space = self._taken_space()
        if self._is_thinking:
            self._grow("reasoning", Reasoning, space)
        elif not self._is_after_call:
            self._grow("content", Content, space)

    def _taken_space(self) -> str:
        space, self._space = "".join(self._space), []
        return space

    def _grow(self, kind: object, make: Callable[[str], Event], text: str) -> None:
        if not text:
            return
        if kind != self._kind or self._make is None:
            self._close_run()
            self._kind, self._make = kind, make
        self._pieces.append(text)

    def _close_run(self) -> None:
        if self._pieces and self._make is not None:
            self._events.append(self._make("".join(self._pieces)))
        self._pieces, self._make = [], None
