"""The output items of one response as they grow, and the event of each growth.

Owns when an item opens and closes. Knows no HTTP and no envelope: events have no number yet.
Invariant: items and events are made together, so a streamed answer and a whole one are the same;
what is open is the last item.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from firefront.core.messages import Logprob
from firefront.gateway.generate import Growth
from firefront.gateway.logprob_shapes import chat_entry
from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning

Json = dict[str, Any]


@dataclass(frozen=True)
class _Kind:
    """A kind of item, in the words of its events."""

    type: str
    prefix: str  # of its id
    text: str  # response.{text}.delta and .done
    whole: str = "text"  # what .done calls the whole text
    part: str | None = None  # response.{part}.added and .done: the part that holds the text
    part_type: str = ""
    part_index: str = ""
    holder: str = ""  # the item's list that holds the part


_MESSAGE = _Kind(
    "message",
    "msg",
    "output_text",
    part="content_part",
    part_type="output_text",
    part_index="content_index",
    holder="content",
)
_THOUGHT = _Kind(
    "reasoning",
    "rs",
    "reasoning_text",
    part="content_part",
    part_type="reasoning_text",
    part_index="content_index",
    holder="content",
)
_SUMMARY = _Kind(
    "reasoning",
    "rs",
    "reasoning_summary_text",
    part="reasoning_summary_part",
    part_type="summary_text",
    part_index="summary_index",
    holder="summary",
)
_CALL = _Kind("function_call", "fc", "function_call_arguments", whole="arguments")


class _Item:
    """An item while it is said. `fixed`: what is known of it from the beginning."""

    def __init__(self, kind: _Kind, index: int, item_id: str, **fixed: Any) -> None:
        self.kind = kind
        self._index = index
        self._place: Json = {"item_id": item_id, "output_index": index}
        if kind.part is not None:
            self._place[kind.part_index] = 0
        self._item = {"id": item_id, "type": kind.type, **fixed}
        self._texts: list[str] = []
        self._logprobs: list[Json] = []

    def opened(self) -> list[Json]:
        item = {**self._item, "status": "in_progress", **self._holders([])}
        if self.kind is _CALL:
            item["arguments"] = ""
        events: list[Json] = [self._of_item("added", item)]
        if self.kind.part is not None:
            events.append(self._event(f"{self.kind.part}.added", part=self._part("", [])))
        return events

    def grown(self, text: str, logprobs: list[Json]) -> Json:
        self._texts.append(text)
        self._logprobs += logprobs
        return self._event(f"{self.kind.text}.delta", delta=text, **self._beside(logprobs))

    def closed(self, status: str) -> list[Json]:
        text = "".join(self._texts)
        done = {self.kind.whole: text, **self._beside(self._logprobs)}
        events = [self._event(f"{self.kind.text}.done", **done)]
        if self.kind.part is not None:
            part = self._part(text, self._logprobs)
            events.append(self._event(f"{self.kind.part}.done", part=part))
        return [*events, self._of_item("done", self.whole(status))]

    def whole(self, status: str) -> Json:
        """The item with all that was said."""
        text = "".join(self._texts)
        if self.kind is _CALL:
            return {**self._item, "status": status, "arguments": text}
        part = self._part(text, self._logprobs)
        return {**self._item, "status": status, **self._holders([part])}

    def _holders(self, parts: list[Json]) -> Json:
        if self.kind.type == "reasoning":
            return {"summary": [], "content": [], self.kind.holder: parts}
        return {self.kind.holder: parts} if self.kind.holder else {}

    def _part(self, text: str, logprobs: list[Json]) -> Json:
        part: Json = {"type": self.kind.part_type, "text": text}
        if self.kind is _MESSAGE:
            part |= {"annotations": [], "logprobs": logprobs}
        return part

    def _beside(self, logprobs: list[Json]) -> Json:
        return {"logprobs": list(logprobs)} if self.kind is _MESSAGE else {}

    def _event(self, name: str, **fields: Any) -> Json:
        return {"type": f"response.{name}", **self._place, **fields}

    def _of_item(self, what: str, item: Json) -> Json:
        return {
            "type": f"response.output_item.{what}",
            "output_index": self._index,
            "item": item,
        }


class Output:
    """What a response says. `stem` makes the items' ids; `tells_summary`: a thought is told as a
    summary and not as content."""

    def __init__(self, stem: str, *, tells_summary: bool) -> None:
        self._stem = stem
        self._thought = _SUMMARY if tells_summary else _THOUGHT
        self._done: list[Json] = []
        self._open: _Item | None = None
        self._blank = ""  # white space that is only said if text follows
        self._logprobs: list[Json] = []  # of tokens whose text has not come yet

    def items(self) -> list[Json]:
        """The items so far; one that is not closed is incomplete."""
        return [*self._done, *([self._open.whole("incomplete")] if self._open else [])]

    def grow(self, growth: Growth) -> list[Json]:
        """Add what arrived; the events that tell of it."""
        self._logprobs += _entries(growth.delta.logprobs or ())
        events: list[Json] = []
        for event in growth.events:
            events += self._add(event)
        return events

    def end(self, *, is_complete: bool) -> list[Json]:
        """Close what is open, cut off unless `is_complete`; an answer of no item is an empty
        message."""
        events: list[Json] = []
        if self._open is None and not self._done:
            events += self._enter(_MESSAGE)
            if self._blank:
                events += self._say(self._blank)
        if self._open is not None and self._open.kind is _MESSAGE and self._logprobs:
            events += self._say("")
        return events + self._close("completed" if is_complete else "incomplete")

    def _add(self, event: Event) -> list[Json]:
        match event:
            case Content():
                is_open = self._open is not None and self._open.kind is _MESSAGE
                text, self._blank = self._blank + event.text, ""
                if not is_open and not text.strip():
                    self._blank = text
                    return []
                return [*([] if is_open else self._enter(_MESSAGE)), *self._say(text)]
            case Reasoning():
                self._logprobs, self._blank = [], ""
                is_open = self._open is not None and self._open.kind is self._thought
                return [*([] if is_open else self._enter(self._thought)), *self._say(event.text)]
            case CallOpened():
                self._logprobs, self._blank = [], ""
                return self._enter(_CALL, call_id=event.id, name=event.name)
            case CallArguments():
                assert self._open is not None and self._open.kind is _CALL
                self._logprobs = []
                return self._say(event.text)

    def _enter(self, kind: _Kind, **fixed: Any) -> list[Json]:
        closing = self._close("completed")
        if kind is _MESSAGE:
            fixed = {"role": "assistant"}
        index = len(self._done)
        self._open = _Item(kind, index, f"{kind.prefix}_{self._stem}_{index}", **fixed)
        return closing + self._open.opened()

    def _say(self, text: str) -> list[Json]:
        assert self._open is not None
        logprobs, self._logprobs = self._logprobs, []
        return [self._open.grown(text, logprobs)]

    def _close(self, status: str) -> list[Json]:
        if self._open is None:
            return []
        events = self._open.closed(status)
        self._done.append(events[-1]["item"])
        self._open = None
        return events


def retold(items: Iterable[Json]) -> list[Json]:
    """The events of finished items, each text in one piece."""
    events: list[Json] = []
    for index, item in enumerate(items):
        kind, fixed, text, logprobs = _understood(item)
        told = _Item(kind, index, item["id"], **fixed)
        events += told.opened()
        if text:
            events.append(told.grown(text, logprobs))
        events += told.closed(item["status"])
    return events


def _understood(item: Json) -> tuple[_Kind, Json, str, list[Json]]:
    """An item's kind, what is fixed of it, its text and the text's log-probabilities."""
    if item["type"] == "function_call":
        fixed = {"call_id": item["call_id"], "name": item["name"]}
        return _CALL, fixed, item["arguments"], []
    if item["type"] == "reasoning":
        kind = _SUMMARY if item["summary"] else _THOUGHT
        return kind, {}, item[kind.holder][0]["text"], []
    [part] = item["content"]
    return _MESSAGE, {"role": "assistant"}, part["text"], part["logprobs"]


def _entries(logprobs: Sequence[Logprob]) -> list[Json]:
    return [chat_entry(position) for position in logprobs]
