"""An answer's events in, items and API events out; the SDK's accumulator is the judge."""

import itertools
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from firefront.core.errors import RequestError
from firefront.core.messages import Delta, Logprob
from firefront.gateway.generate import Growth
from firefront.gateway.responses.answer import Envelope
from firefront.gateway.responses.body import ResponsesRequest, response_task
from firefront.gateway.responses.events import Numbering, beginning, ending, replay
from firefront.gateway.responses.items import chat_messages, read_items
from firefront.gateway.responses.output import Output
from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning
from tests.gateway.responses.oracle import judged, parse_frames

STEM = "ab" * 16
USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}


def growth(*events: Event, logprobs: list[Logprob] | None = None) -> Growth:
    delta = Delta(request_id="r", generation=1, token_ids=[], text="", logprobs=logprobs)
    return Growth(0, list(events), delta, None)


def run(
    growths: list[Growth], *, is_complete: bool = True, tells_summary: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    output = Output(STEM, tells_summary=tells_summary)
    events = [event for each in growths for event in output.grow(each)]
    events += output.end(is_complete=is_complete)
    return events, output.items()


_REQUEST = ResponsesRequest(model="fake", input="x")
_TASK = response_task(_REQUEST, [], read_items("x", STEM))
ENVELOPE = Envelope(_REQUEST, _TASK, model="fake", stem=STEM)


def stream(growths: list[Growth], **options: Any) -> tuple[list[dict[str, Any]], Any]:
    """The whole stream, through the wire's form, and its last response."""
    events, items = run(growths, **options)
    final = ENVELOPE.response("completed", items, usage=USAGE)
    told = [*beginning(ENVELOPE.response("in_progress")), *events, ending(final)]
    return parse_frames(b"".join(Numbering().frames(told))), final


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


EVERYTHING = [
    growth(Reasoning("let ")),
    growth(Reasoning("me"), Content("\n\n")),
    growth(Content("look"), CallOpened(0, "call_a", "look")),
    growth(CallArguments(0, '{"a":')),
    growth(CallArguments(0, " 1}"), CallOpened(1, "call_b", "find"), CallArguments(1, "{}")),
]


def test_the_whole_sequence() -> None:
    events, final = stream(EVERYTHING)
    assert kinds(events) == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    whole = judged(events)
    thought, message, first, second = whole.output
    assert (thought.type, thought.content[0].text, thought.summary) == ("reasoning", "let me", [])
    assert whole.output_text == message.content[0].text == "\n\nlook"
    assert (first.call_id, first.name, first.arguments) == ("call_a", "look", '{"a": 1}')
    assert (second.call_id, second.name, second.arguments) == ("call_b", "find", "{}")
    assert {item.status for item in whole.output} == {"completed"}
    assert [item.id for item in whole.output] == [
        f"rs_{STEM}_0", f"msg_{STEM}_1", f"fc_{STEM}_2", f"fc_{STEM}_3"
    ]  # fmt: skip
    assert thought.to_dict() == final["output"][0]


def test_a_thought_as_summary() -> None:
    events, _ = stream(EVERYTHING[:3], tells_summary=True)
    assert kinds(events)[2:9] == [
        "output_item.added", "reasoning_summary_part.added",
        "reasoning_summary_text.delta", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
    ]  # fmt: skip
    thought = judged(events).output[0]
    assert (thought.summary[0].text, thought.content) == ("let me", [])


def test_white_space_before_a_call_is_no_message() -> None:
    growths = [
        growth(Reasoning("x"), Content("\n")),
        growth(Content("\n"), CallOpened(0, "c", "f")),
    ]
    _, items = run(growths)
    assert [item["type"] for item in items] == ["reasoning", "function_call"]
    assert items[1]["arguments"] == ""


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_answer_of_nothing_is_an_empty_message(text: str) -> None:
    events, _ = stream([growth(Content(text))] if text else [])
    [message] = judged(events).output
    assert message.content[0].text == text


def test_only_a_thought() -> None:
    events, items = run([growth(Reasoning("hm"))], is_complete=False)
    [thought] = items
    assert (thought["status"], events[-1]["item"]) == ("incomplete", thought)


def test_a_cut_off_call_is_incomplete() -> None:
    _, items = run([growth(CallOpened(0, "c", "f"), CallArguments(0, '{"a"'))], is_complete=False)
    assert (items[0]["status"], items[0]["arguments"]) == ("incomplete", '{"a"')


def test_items_while_one_is_open() -> None:
    output = Output(STEM, tells_summary=False)
    output.grow(growth(Reasoning("a"), Content("b")))
    assert [item["status"] for item in output.items()] == ["completed", "incomplete"]


def position(letter: str) -> Logprob:
    return Logprob(ord(letter), -0.5, letter.encode(), ((ord(letter), -0.5, letter.encode()),))


def test_logprobs_go_with_the_text_of_the_message() -> None:
    growths = [
        growth(Reasoning("t"), logprobs=[position("t")]),
        growth(logprobs=[position("a")]),  # its text is held back
        growth(Content("ab"), logprobs=[position("b")]),
        growth(logprobs=[position("e")]),  # an end has no text
    ]
    events, _ = stream(growths)
    message = judged(events).output[1]
    assert [entry.token for entry in message.content[0].logprobs] == ["a", "b", "e"]
    assert message.content[0].logprobs[0].top_logprobs[0].bytes == [97]
    deltas = [e for e in events if e["type"] == "response.output_text.delta"]
    assert [[entry["token"] for entry in e["logprobs"]] for e in deltas] == [["a", "b"], ["e"]]
    [done] = [e for e in events if e["type"] == "response.output_text.done"]
    assert [entry["token"] for entry in done["logprobs"]] == ["a", "b", "e"]


def _cut(events: list[Event], cuts: list[int]) -> list[Growth]:
    """The same events, their texts in other pieces and several in one growth."""
    pieces: list[Event] = []
    for event in events:
        if isinstance(event, CallOpened):
            pieces.append(event)
            continue
        borders = sorted({0, len(event.text), *(c for c in cuts if c < len(event.text))})
        for start, end in itertools.pairwise(borders):
            text = event.text[start:end]
            if isinstance(event, CallArguments):
                pieces.append(CallArguments(event.index, text))
            else:
                pieces.append(type(event)(text))
    sizes = itertools.cycle([1 + cut % 3 for cut in cuts] or [1])
    growths = []
    while pieces:
        size = next(sizes)
        growths.append(growth(*pieces[:size]))
        pieces = pieces[size:]
    return growths


TEXTS = st.text(alphabet="ab \n", min_size=1, max_size=8)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = []
    num_calls = 0
    for kind in draw(st.lists(st.sampled_from("rct"), max_size=5)):
        if kind == "t":
            name = draw(st.sampled_from(["f", "g"]))
            events.append(CallOpened(num_calls, f"call_{num_calls}", name))
            events.append(CallArguments(num_calls, draw(TEXTS)))
            num_calls += 1
        else:
            events.append((Reasoning if kind == "r" else Content)(draw(TEXTS)))
    return events


@hypothesis.settings(deadline=None)
@hypothesis.given(
    answer=answers(),
    cuts=st.lists(st.integers(1, 7), max_size=4),
    tells_summary=st.booleans(),
)
def test_however_it_is_cut_the_items_are_the_same(
    answer: list[Event], cuts: list[int], tells_summary: bool
) -> None:
    _, items = run([growth(event) for event in answer], tells_summary=tells_summary)
    events, final = stream(_cut(answer, cuts), tells_summary=tells_summary)
    assert final["output"] == items
    whole = judged(events)
    assert len(whole.output) == len(items)
    assert judged(parse_frames(b"".join(replay(final, None)))).output == whole.output


@hypothesis.given(answer=answers())
def test_an_answer_can_be_gone_on_from(answer: list[Event]) -> None:
    """What comes out goes in again: no text is lost but white space between items."""
    _, items = run([growth(event) for event in answer])
    assert read_items(items, "other") == items
    messages = chat_messages(None, items, [])
    said = "".join(m.get("reasoning_content", "") + (m["content"] or "") for m in messages)
    calls = [call for m in messages for call in m.get("tool_calls", ())]
    told = [e.text for e in answer if isinstance(e, Content | Reasoning)]
    assert "".join(said.split()) == "".join("".join(told).split())
    assert [call["id"] for call in calls] == [e.id for e in answer if isinstance(e, CallOpened)]
    assert [call["function"]["arguments"] for call in calls] == [
        e.text for e in answer if isinstance(e, CallArguments)
    ]


def test_replay_goes_on_where_numbers_are_the_same() -> None:
    events, final = stream(EVERYTHING)
    again = parse_frames(b"".join(replay(final, None)))
    assert judged(again).output == judged(events).output
    assert again[:4] == events[:4]
    for starting_after in (0, 3):
        rest = parse_frames(b"".join(replay(final, starting_after)))
        assert rest == again[starting_after + 1 :]
    for starting_after in (4, 1000):
        with pytest.raises(RequestError, match="starting_after"):
            replay(final, starting_after)
