"""Adapters' rows: names, states, replacement; several writers at once."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from firefront.core.errors import NotFoundError, RequestError
from firefront.store.store import Store
from tests.store.inside import add_account, add_adapter


def names(store: Store, **query: object) -> list[str]:
    return [adapter.name for adapter in store.adapters.list("local", **query).items]


def test_what_is_kept_is_what_was_given(store: Store) -> None:
    made = add_adapter(
        store, "mine", base_sha256="b" * 64, template_sha256="c" * 64, job_id="ftjob-1",
        is_pinned=True, targets=["o_proj", "q_proj"], rank=16,
    )  # fmt: skip
    assert store.adapters.get("local", made.id) == made
    assert store.adapters.find("local", "base", "mine") == made
    assert store.adapters.list("local").items == [made]
    assert store.adapters.serving() == [made]
    assert made.state == "serving" and made.is_pinned is True and made.rank == 16


def test_a_name_is_one_adapters_only(store: Store) -> None:
    first = add_adapter(store, "x")
    with pytest.raises(RequestError, match="base has an adapter 'x' already"):
        add_adapter(store, "x", sha256="1" * 64)
    add_adapter(store, "x", base="other")
    add_adapter(store, "x", add_account(store, "somebody"))
    assert store.adapters.find("local", "base", "x") == first


def test_replacing_retires_the_one_before(store: Store) -> None:
    first = add_adapter(store, "x")
    second = add_adapter(store, "x", sha256="1" * 64, replaces=True)
    assert store.adapters.find("local", "base", "x") == second
    retired = msgspec.structs.replace(first, state="retired")
    assert store.adapters.list("local", state="retired").items == [retired]
    assert store.adapters.digests() == {second.sha256}
    assert store.adapters.is_needed(second.sha256) and not store.adapters.is_needed(first.sha256)
    with pytest.raises(NotFoundError):
        store.adapters.retire("local", first.id)
    add_adapter(store, "new", replaces=True)  # nothing to replace is fine
    assert names(store) == ["new", "x"]


def test_what_is_retired_is_not_served(store: Store) -> None:
    made, other = add_adapter(store, "x"), add_adapter(store, "y", sha256="1" * 64)
    store.adapters.retire("local", other.id)
    assert names(store) == ["x"] and store.adapters.serving() == [made]
    store.adapters.retire("local", made.id)
    assert store.adapters.get("local", made.id).state == "retired"
    assert names(store) == [] and store.adapters.serving() == []
    assert store.adapters.digests() == set()
    store.adapters.delete("local", made.id)
    with pytest.raises(NotFoundError):
        store.adapters.get("local", made.id)


@pytest.mark.parametrize(
    "name", ["", "a/b", "a:b", "../x", ".x", "-x", "a b", "ä", "a" * 101, "a\n", "\x00", "\ud800"]
)
def test_names_that_are_none(store: Store, name: str) -> None:
    with pytest.raises(RequestError, match="^name: must be up to 100 letters"):
        add_adapter(store, name)
    with pytest.raises(NotFoundError):
        store.adapters.find("local", "base", name)


def test_of_many_that_want_a_name_one_gets_it(store: Store) -> None:
    def take(number: int) -> None:
        with contextlib.suppress(RequestError):
            add_adapter(store, "x", id=f"a-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(24)))
    assert names(store) == ["x"]

    def replace(number: int) -> None:
        add_adapter(store, "x", id=f"b-{number}", replaces=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(replace, range(24)))
    assert names(store) == ["x"]
    assert len(store.adapters.list("local", state="retired").items) == 24
