"""Conversations: begun, added to by many, read page by page, deleted."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from firefront.core.errors import NotFoundError, RequestError
from firefront.store.store import Store
from tests.store.inside import add_account, add_response


def items(*ids: str) -> list[dict[str, Any]]:
    return [{"id": id, "type": "message", "text": f"half \ud83d, NUL \x00 {id}"} for id in ids]


def ids_of(store: Store, id: str = "conv_1", **query: Any) -> list[str]:
    return [item["id"] for item in store.conversations.items("local", id, **query).items]


@pytest.fixture
def begun(store: Store) -> Store:
    store.conversations.create(
        "local", id="conv_1", created_at=1, metadata={"k": "v"}, items=items("a", "b")
    )
    return store


def test_what_is_said_stays_in_order(begun: Store) -> None:
    assert begun.conversations.append("local", "conv_1", items("c")) == items("c")
    assert begun.conversations.items("local", "conv_1").items == items("a", "b", "c")
    assert begun.conversations.item("local", "conv_1", "b") == items("b")[0]
    num_items, num_chars = begun.conversations.size("local", "conv_1")
    assert num_items == 3 and num_chars > 3 * len("half ")


def test_pages(begun: Store) -> None:
    begun.conversations.append("local", "conv_1", items("c", "d", "e"))
    for order, expected in (("asc", "abcde"), ("desc", "edcba")):
        found, after, more = [], None, True
        while more:
            page = begun.conversations.items(
                "local", "conv_1", after=after, limit=2, order=order
            )
            found += [item["id"] for item in page.items]
            after, more = found[-1], page.has_more
        assert found == list(expected)
    empty = begun.conversations.items("local", "conv_1", limit=0)
    assert empty.items == [] and empty.has_more
    with pytest.raises(NotFoundError, match="after"):
        begun.conversations.items("local", "conv_1", after="z")


def test_an_id_that_is_taken_gets_an_addition(begun: Store) -> None:
    kept = begun.conversations.append("local", "conv_1", items("b", "c", "c"))
    new_ids = [item["id"] for item in kept]
    assert new_ids[1] == "c" and len({*new_ids, "a", "b"}) == 5
    assert new_ids[0].startswith("b_") and new_ids[2].startswith("c_")
    assert ids_of(begun) == ["a", "b", *new_ids]
    begun.conversations.create("local", id="conv_2", created_at=1, metadata={}, items=items("a"))
    assert ids_of(begun, "conv_2") == ["a"]


def test_what_is_said_at_once_stays_together(begun: Store) -> None:
    def say(number: int) -> None:
        begun.conversations.append("local", "conv_1", items(*(f"{number}-{i}" for i in range(5))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(say, range(24)))
    said = ids_of(begun)[2:]
    assert len(said) == 120
    for first in range(0, 120, 5):
        number = said[first].partition("-")[0]
        assert said[first : first + 5] == [f"{number}-{i}" for i in range(5)]


def test_very_many_at_once(begun: Store) -> None:
    kept = begun.conversations.append("local", "conv_1", items(*map(str, range(1200)), "a"))
    assert len(kept) == 1201 and kept[-1]["id"].startswith("a_")
    assert ids_of(begun)[2:] == [item["id"] for item in kept]


def test_a_response_and_what_it_says_are_kept_together(begun: Store) -> None:
    add_response(begun, "resp_1", said=("conv_1", items("c")))
    assert ids_of(begun) == ["a", "b", "c"]
    with pytest.raises(RequestError):
        add_response(begun, "resp_1", said=("conv_1", items("d")))
    with pytest.raises(NotFoundError):
        begun.responses.update(
            "local", "resp_2", status="completed", response={}, said=("conv_1", items("d"))
        )
    assert ids_of(begun) == ["a", "b", "c"]
    begun.conversations.delete("local", "conv_1")
    add_response(begun, "resp_3", said=("conv_1", items("d")))  # kept, though nobody listens
    assert begun.responses.get("local", "resp_3").id == "resp_3"


def test_metadata_and_deletion(begun: Store) -> None:
    changed = begun.conversations.set_metadata("local", "conv_1", {"x": "y"})
    assert changed == begun.conversations.get("local", "conv_1")
    assert changed.metadata == {"x": "y"} and changed.created_at == 1
    assert begun.conversations.delete_item("local", "conv_1", "a") == changed
    assert ids_of(begun) == ["b"]
    begun.conversations.delete("local", "conv_1")
    begun.conversations.create("local", id="conv_1", created_at=2, metadata={})
    assert ids_of(begun) == []


@pytest.mark.parametrize("id", ["conv_none", "", "a b", "\x00", "\ud800", "x" * 300])
def test_what_does_not_exist_is_not_found(begun: Store, id: str) -> None:
    conversations = begun.conversations
    for call in (
        lambda: conversations.get("local", id),
        lambda: conversations.size("local", id),
        lambda: conversations.items("local", id),
        lambda: conversations.append("local", id, items("c")),
        lambda: conversations.set_metadata("local", id, {}),
        lambda: conversations.delete("local", id),
        lambda: conversations.item("local", "conv_1", id),
        lambda: conversations.item("local", id, "a"),
        lambda: conversations.delete_item("local", "conv_1", id),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_accounts_do_not_meet(begun: Store) -> None:
    add_account(begun, "other")
    with pytest.raises(NotFoundError):
        begun.conversations.items("other", "conv_1")
    begun.conversations.create("other", id="conv_1", created_at=1, metadata={}, items=items("z"))
    assert ids_of(begun) == ["a", "b"]
    with pytest.raises(RequestError, match="^id: "):
        begun.conversations.create("local", id="conv_1", created_at=1, metadata={})
