"""Pages: whatever comes and goes between them, what was there all along is seen once, in order."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firefront.store.store import Store
from tests.store.inside import add_account, add_completion

_accounts = itertools.count()


def _walk(
    store: Store, account: str, limit: int, order: str, between: Callable[[list[str]], None]
) -> list[str]:
    """All ids, page by page; `between` is told what was seen so far."""
    seen: list[str] = []
    after = None
    while True:
        page = store.completions.list(account, after=after, limit=limit, order=order)  # type: ignore[arg-type]
        assert len(page.items) <= limit
        assert page.items or not page.has_more
        seen += [item.id for item in page.items]
        if not page.has_more:
            return seen
        after = seen[-1]
        between(seen)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    times=st.lists(st.integers(0, 5), max_size=12),
    limit=st.integers(1, 5),
    order=st.sampled_from(["asc", "desc"]),
    changes=st.lists(st.tuples(st.sampled_from(["add", "drop"]), st.integers(0, 11)), max_size=6),
)
def test_pages_show_everything_once(
    store: Store,
    times: list[int],
    limit: int,
    order: str,
    changes: list[tuple[str, int]],
) -> None:
    account = add_account(store, f"account{next(_accounts)}")
    for number, created_at in enumerate(times):
        add_completion(store, f"c{number}", account, created_at=created_at)
    stays = set(range(len(times)))
    left = iter(changes)

    def change(seen: list[str]) -> None:
        kind, number = next(left, ("", 0))
        if kind == "add":
            add_completion(store, f"new{len(seen)}", account, created_at=number % 6)
        elif kind == "drop" and number in stays and f"c{number}" != seen[-1]:
            stays.remove(number)
            store.completions.delete(account, f"c{number}")

    seen = _walk(store, account, limit, order, change)
    assert len(seen) == len(set(seen))
    expected = sorted(stays, key=lambda number: (times[number], number), reverse=order == "desc")
    dropped = set(range(len(times))) - stays
    old = [id for id in seen if id.startswith("c") and int(id[1:]) not in dropped]
    assert old == [f"c{number}" for number in expected]


def test_a_page_of_nothing_says_whether_there_is_something(store: Store) -> None:
    assert store.completions.list("local", limit=0) == store.completions.list("local")
    add_completion(store, "c")
    page = store.completions.list("local", limit=0)
    assert (page.items, page.has_more) == ([], True)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_last_page_is_empty_after_the_last_row(store: Store, order: str) -> None:
    for number in range(3):
        add_completion(store, f"c{number}")
    last = "c2" if order == "asc" else "c0"
    page = store.completions.list("local", after=last, order=order)  # type: ignore[arg-type]
    assert (page.items, page.has_more) == ([], False)
