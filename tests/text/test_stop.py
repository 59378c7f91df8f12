"""Stop strings are found across any borders, and no character of them is shown too early."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firefront.text.stop import StopMatcher

stops_of_ab = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def expected(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """By definition: the match that ends first, and of those the one that begins first."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return (text[:end] if include else text[: end - len(stop)]), stop
    return text, None


@given(st.lists(st.text("ab", max_size=6), max_size=12), stops_of_ab, st.booleans())
def test_any_split_equals_the_whole(pieces: list[str], stops: list[str], include: bool) -> None:
    matcher = StopMatcher(stops, include_stop=include)
    shown, matched = "", None
    for piece in pieces:
        emitted, matched = matcher.push(piece)
        shown += emitted
        whole, _ = expected("".join(pieces), stops, include)
        assert whole.startswith(shown), "a character was shown too early"
    shown += matcher.flush()
    assert (shown, matched) == expected("".join(pieces), stops, include)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_without_stops_text_passes_at_once(pieces: list[str]) -> None:
    matcher = StopMatcher([])
    assert [matcher.push(piece) for piece in pieces] == [(piece, None) for piece in pieces]
    assert matcher.flush() == ""


def test_only_what_may_become_a_stop_is_held() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("Hi\n") == ("Hi", None)
    assert matcher.push("there\n\nUs") == ("\nthere", None)
    assert matcher.push("age\n") == ("\n\nUsage", None)
    assert matcher.push("\nUser: x") == ("", "\n\nUser:")
    assert matcher.matched == "\n\nUser:"
    assert matcher.push("more") == ("", "\n\nUser:")
    assert matcher.flush() == ""


def test_a_prefix_that_failed_may_hide_another() -> None:
    matcher = StopMatcher(["aab"])
    assert [matcher.push(c)[0] for c in "aaab"] == ["", "", "a", ""]
    assert matcher.matched == "aab"


def test_a_stop_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(["x", ""])


def test_time_is_linear() -> None:
    def seconds(size: int) -> float:
        matcher = StopMatcher(["a" * 255 + "b"])
        start = time.thread_time()
        for _ in range(size):
            matcher.push("a")
        return time.thread_time() - start

    seconds(2_000)
    assert seconds(80_000) < 8 * 3 * seconds(10_000) + 0.05
