"""Any stream of tokens decodes as a whole does, and never shows half a character."""

from hypothesis import given
from hypothesis import strategies as st

from firefront.text.detokenizer import Detokenizer

# Single bytes, pieces of characters, whole words: what vocabularies are made of.
TABLE = [bytes([b]) for b in range(256)] + [
    b" Hello", "é".encode(), "日本".encode(), "日本".encode()[:4], "👍🏽".encode()[2:],
    b"", b" ", b"<|end|>",
]  # fmt: skip
END = len(TABLE) - 1
ids_of_table = st.lists(st.integers(0, END), max_size=60)


def streamed(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [detokenizer.push(i) for i in ids] + [detokenizer.flush()]


@given(ids_of_table)
def test_pieces_equal_the_whole(ids: list[int]) -> None:
    whole = b"".join(TABLE[i] for i in ids).decode("utf-8", "replace")
    assert "".join(streamed(Detokenizer(TABLE), ids)) == whole


@given(st.text(max_size=40))
def test_valid_text_never_shows_a_broken_character(text: str) -> None:
    data = text.encode("utf-8", "replace")
    pieces = streamed(Detokenizer(TABLE), list(data))
    assert "".join(pieces) == data.decode()
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@given(ids_of_table)
def test_the_leading_space_goes_once(ids: list[int]) -> None:
    whole = b"".join(TABLE[i] for i in ids).decode("utf-8", "replace")
    pieces = streamed(Detokenizer(TABLE, strips_space=True), ids)
    assert "".join(pieces) == whole.removeprefix(" ")


def test_an_unfinished_character_is_held_back_until_it_is_certain() -> None:
    detokenizer = Detokenizer(TABLE)
    thumb = "👍".encode()
    assert [detokenizer.push(b) for b in thumb] == ["", "", "", "👍"]
    assert detokenizer.push(thumb[0]) == ""
    assert detokenizer.push(ord("x")) == "\ufffdx"
    assert detokenizer.push(0xE6) == ""
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


def test_every_split_of_a_text_survives() -> None:
    text = "é日🎉x\u0301"  # characters of two, three, four bytes, and one with a mark of its own
    data = text.encode()
    for borders in range(1 << (len(data) - 1)):
        cuts = [i + 1 for i in range(len(data) - 1) if borders >> i & 1]
        table = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        pieces = streamed(Detokenizer(table), list(range(len(table))))
        assert "".join(pieces) == text and "\ufffd" not in "".join(pieces)


def test_skipped_and_unknown_ids_add_nothing() -> None:
    detokenizer = Detokenizer(TABLE, frozenset({END}))
    assert detokenizer.push(END) == ""
    assert detokenizer.push(10**6) == "" and detokenizer.push(-1) == ""
    assert Detokenizer(TABLE).push(END) == "<|end|>"
