"""Stored completions: metadata that can be searched, JSON that comes back as it was."""

import pytest

from firefront.core.errors import NotFoundError, RequestError
from firefront.store import tables
from firefront.store.store import Store
from tests.store.inside import add_completion, rows

HOSTILE = ["NUL \x00", "half \ud83d", "'; DROP TABLE completions; --", '"', "%", "\\", "é\u202e"]


def test_a_completion_comes_back_as_it_was(store: Store) -> None:
    add_completion(
        store,
        "chatcmpl-1",
        created_at=17,
        model="org/name",
        priority=-1,
        metadata={"key": "value"},
        request={"messages": [{"role": "user", "content": "日本"}], "temperature": 0.1},
        answer={"choices": [None, True, 2**70, 1e-9, {"": []}]},
    )
    found = store.completions.get("local", "chatcmpl-1")
    assert (found.created_at, found.model, found.priority) == (17, "org/name", -1)
    assert found.metadata == {"key": "value"}
    assert found.request == {
        "messages": [{"role": "user", "content": "日本"}],
        "temperature": 0.1,
    }
    assert found.answer == {"choices": [None, True, 2**70, 1e-9, {"": []}]}


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_inside_comes_back(store: Store, text: str) -> None:
    pair = {text: text}
    add_completion(store, "c", metadata=pair, request={"x": text}, answer=pair)
    found = store.completions.get("local", "c")
    assert (found.metadata, found.request, found.answer) == (pair, {"x": text}, pair)
    try:
        ids = [c.id for c in store.completions.list("local", metadata=pair).items]
    except RequestError as error:
        assert error.param == "metadata" and ("\x00" in text or "\ud83d" in text)
    else:
        assert ids == ["c"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_id_and_no_filter_is_an_error_of_ours(store: Store, text: str) -> None:
    add_completion(store, "c")
    for call in (store.completions.get, store.completions.delete):
        with pytest.raises(NotFoundError):
            call("local", text)
    with pytest.raises(NotFoundError):
        store.completions.set_metadata("local", text, {})
    with pytest.raises(NotFoundError) as raised:
        store.completions.list("local", after=text)
    assert raised.value.param == "after"
    try:
        assert store.completions.list("local", model=text).items == []
    except RequestError as error:
        assert error.param == "model"


def test_search_by_metadata_and_model(store: Store) -> None:
    add_completion(store, "1", metadata={"team": "a", "run": "1"})
    add_completion(store, "2", metadata={"team": "a", "run": "2"}, model="other")
    add_completion(store, "3", metadata={"team": "b"})
    add_completion(store, "4")

    def found(**filters: object) -> list[str]:
        return [c.id for c in store.completions.list("local", **filters).items]

    assert found() == ["1", "2", "3", "4"]
    assert found(metadata={"team": "a"}) == ["1", "2"]
    assert found(metadata={"team": "a", "run": "2"}) == ["2"]
    assert found(metadata={"team": "a"}, model="m") == ["1"]
    assert found(metadata={"run": "a"}) == found(model="none") == []


def test_metadata_can_be_replaced(store: Store) -> None:
    add_completion(store, "1", metadata={"a": "1", "b": "2"})
    changed = store.completions.set_metadata("local", "1", {"b": "3"})
    assert changed.metadata == {"b": "3"} == store.completions.get("local", "1").metadata
    assert store.completions.list("local", metadata={"a": "1"}).items == []
    assert [c.id for c in store.completions.list("local", metadata={"b": "3"}).items] == ["1"]


def test_deleting_takes_the_metadata_along(store: Store) -> None:
    add_completion(store, "1", metadata={"a": "1"})
    store.completions.delete("local", "1")
    assert rows(store, tables.completion_metadata) == rows(store, tables.completions) == []
    with pytest.raises(NotFoundError):
        store.completions.delete("local", "1")
    add_completion(store, "1")
    assert store.completions.list("local", metadata={"a": "1"}).items == []


def test_huge_metadata_is_kept_though_not_searched(store: Store) -> None:
    pair = {"k" * 5000: "v" * 100_000}
    add_completion(store, "1", metadata=pair)
    assert store.completions.get("local", "1").metadata == pair


def test_an_id_is_taken_once(store: Store) -> None:
    add_completion(store, "1", answer={"first": True})
    with pytest.raises(RequestError, match="^id: "):
        add_completion(store, "1")
    assert store.completions.get("local", "1").answer == {"first": True}
