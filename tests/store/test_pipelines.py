"""Pipelines in the store: a name is one's only, what is changed stays changed."""

import pytest

from firefront.core.errors import NotFoundError, RequestError
from firefront.store.store import Store
from tests.store.inside import add_account, add_pipeline


def test_kept_changed_and_deleted(store: Store) -> None:
    first = add_pipeline(store, metadata={"team": "ä"})
    second = add_pipeline(store, name="other")
    assert store.pipelines.get("local", first.id) == first
    assert first.definition == {"data": {"file": "f"}} and first.metadata == {"team": "ä"}
    add_pipeline(store, name="elsewhere", base="another")
    here = ["base"]
    page = store.pipelines.list("local", bases=here, limit=1)
    assert (page.items, page.has_more) == ([second], True)
    assert store.pipelines.list("local", bases=here, after=second.id).items == [first]
    changed = store.pipelines.set_state("local", first.id, {"version": 2})
    changed = store.pipelines.set_definition("local", first.id, {"data": {}})
    assert (changed.state, changed.definition) == ({"version": 2}, {"data": {}})
    assert store.pipelines.all()[:2] == [changed, second]
    store.pipelines.delete("local", first.id)
    with pytest.raises(NotFoundError):
        store.pipelines.get("local", first.id)
    assert add_pipeline(store).id != first.id  # the name is free again


def test_a_name_is_one_s_only(store: Store) -> None:
    add_pipeline(store)
    with pytest.raises(RequestError, match="base has a pipeline 'intent' already") as raised:
        add_pipeline(store)
    assert raised.value.param == "name"
    assert add_pipeline(store, base="another").name == "intent"
    assert add_pipeline(store, add_account(store, "b")).name == "intent"
    for name in ("", "a b", "-a", "a" * 101, "a/b"):
        with pytest.raises(RequestError, match="name: "):
            add_pipeline(store, name=name)
