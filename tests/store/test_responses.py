"""Stored responses: begun, updated, gone on from, deleted."""

import pytest

from firefront.core.errors import NotFoundError, RequestError
from firefront.store.responses import StoredResponse
from firefront.store.store import Store
from tests.store.inside import add_response


def test_a_response_from_begin_to_end(store: Store) -> None:
    item = {"type": "message", "role": "user", "content": "half \ud83d, NUL \x00"}
    add_response(store, "resp_1", input_items=[item], metadata={"k": "v"}, priority=1)
    store.responses.update("local", "resp_1", status="completed", response={"output": ["ok"]})
    assert store.responses.get("local", "resp_1") == StoredResponse(
        id="resp_1",
        created_at=1,
        model="m",
        priority=1,
        status="completed",
        previous_response_id=None,
        metadata={"k": "v"},
        input_items=[item],
        response={"output": ["ok"]},
    )


def test_a_chain_outlives_its_first_link(store: Store) -> None:
    add_response(store, "resp_1")
    add_response(store, "resp_2", previous_response_id="resp_1")
    store.responses.delete("local", "resp_1")
    assert store.responses.get("local", "resp_2").previous_response_id == "resp_1"


@pytest.mark.parametrize("id", ["resp_none", "", "a b", "\x00", "\ud800", "x" * 300])
def test_what_does_not_exist_is_not_found(store: Store, id: str) -> None:
    with pytest.raises(NotFoundError):
        store.responses.get("local", id)
    with pytest.raises(NotFoundError):
        store.responses.update("local", id, status="failed", response={})
    with pytest.raises(NotFoundError):
        store.responses.delete("local", id)


def test_an_id_is_taken_once(store: Store) -> None:
    add_response(store, "resp_1", status="completed")
    with pytest.raises(RequestError, match="^id: "):
        add_response(store, "resp_1")
    assert store.responses.get("local", "resp_1").status == "completed"


def test_list_by_status(store: Store) -> None:
    add_response(store, "resp_1", status="queued")
    add_response(store, "resp_2", status="completed")
    assert [r.id for r in store.responses.list("local", status="queued").items] == ["resp_1"]
    assert [r.id for r in store.responses.list("local").items] == ["resp_2", "resp_1"]
