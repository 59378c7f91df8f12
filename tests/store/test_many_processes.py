"""Several processes on one store: nobody is told that it is busy, nothing is lost."""

from collections.abc import Callable
from pathlib import Path

from firefront.store import tables
from firefront.store.store import Store
from tests.store.inside import add_completion, add_file, at_once, check_consistent, rows

EACH = 40


def test_writers_wait_for_each_other(url: str | None, home: Path) -> None:
    Store.open(url, home).close()

    def write(name: str) -> Callable[[], None]:
        def run() -> None:
            store = Store.open(url, home)
            for number in range(EACH):
                store.completions.list("local", limit=1)
                add_completion(store, f"{name}{number}", metadata={"by": name})
                store.completions.set_metadata("local", f"{name}{number}", {"of": name})
            store.close()

        return run

    at_once([write("a"), write("b"), write("c")])
    store = Store.open(url, home)
    ids = [row.id for row in rows(store, tables.completions)]
    assert sorted(ids) == sorted(f"{name}{number}" for name in "abc" for number in range(EACH))
    check_consistent(store, home)
    store.close()


def test_uploads_and_removals_of_one_content_never_cross(url: str | None, home: Path) -> None:
    """Each process keeps and removes the same content; whoever has a file can read it."""
    Store.open(url, home).close()

    def churn(name: str) -> Callable[[], None]:
        def run() -> None:
            store = Store.open(url, home)
            for number in range(EACH):
                file = add_file(store, b"the same", id=f"{name}{number}")
                with store.files.open("local", file.id)[1] as content:
                    assert content.read() == b"the same"
                store.files.delete("local", file.id)
            store.close()

        return run

    at_once([churn("a"), churn("b"), churn("c")])
    store = Store.open(url, home)
    check_consistent(store, home)
    assert rows(store, tables.blobs) == []
    store.close()
