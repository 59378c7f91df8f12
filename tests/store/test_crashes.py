"""Killed at any numbered point, the store is whole when it is opened again, and nothing that was
acknowledged is lost.

The points are the calls that change something: every statement and commit, every call of `os` in
blobs.py and disk.py. The first run is killed before the first of them, the second before the
second, and so on, until one gets through.
"""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from firefront.core import disk
from firefront.store import blobs
from firefront.store.store import Store
from tests.store.inside import (
    add_completion,
    add_file,
    add_response,
    check_consistent,
    contents,
)

CALLS = {"open", "write", "fsync", "rename", "unlink", "close"}
MIN_POINTS, MAX_POINTS = 80, 600

# The lives are forked from a process of one thread: a fork of this one, after whatever tests ran
# in it before, may meet locks that a thread of torch or of a database held.
_LIVES = multiprocessing.get_context("forkserver")
_LIVES.set_forkserver_preload([__name__])


class _Bomb:
    """Kills this process when it is passed for the n-th time."""

    def __init__(self, fuse: int) -> None:
        self._left = fuse

    def passed(self, *args: object, **kwargs: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def plant(self) -> None:
        """Only in a child: it changes the modules."""
        event.listen(sa.Engine, "before_cursor_execute", self.passed)
        event.listen(sa.Engine, "commit", self.passed)
        blobs.os = disk.os = _Counted(self)  # type: ignore[assignment]


class _Counted:
    """The module `os` with a bomb before each call that matters."""

    def __init__(self, bomb: _Bomb) -> None:
        self._bomb = bomb

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(os, name)
        if name not in CALLS:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self._bomb.passed()
            return attribute(*args, **kwargs)

        return call


STEPS: list[Callable[[Store], object]] = [
    lambda store: add_file(store, b"first", id="first"),
    lambda store: add_file(store, b"first", id="twin"),
    lambda store: add_completion(store, "c", metadata={"a": "1"}),
    lambda store: store.completions.set_metadata("local", "c", {"b": "2"}),
    lambda store: add_response(store, "r"),
    lambda store: store.responses.update("local", "r", status="completed", response={}),
    lambda store: store.files.delete("local", "first"),
    lambda store: store.files.delete("local", "twin"),
    lambda store: add_file(store, b"again" * 100, id="again"),
    lambda store: store.completions.delete("local", "c"),
]


def _state(store: Store) -> dict[str, object]:
    """Everything that a user can see."""
    return {
        "files": {file.id: file.sha256 for file in store.files.list("local").items},
        "completions": {c.id: c.metadata for c in store.completions.list("local").items},
        "responses": {r.id: r.status for r in store.responses.list("local").items},
    }


def _states(folder: Path) -> list[dict[str, object]]:
    """The states before the first step, and after each, when nothing goes wrong."""
    store = Store.open(None, folder)
    states = [_state(store)]
    for step in STEPS:
        step(store)
        states.append(_state(store))
    store.close()
    return states


def _live(url: str | None, home: Path, fuse: int, said: Connection) -> None:
    """Take all steps with a bomb about. A byte in the pipe `said` for each that returned."""
    _Bomb(fuse).plant()
    store = Store.open(url, home)
    for step in STEPS:
        step(store)
        os.write(said.fileno(), b".")
    store.close()


def _one_life(url: str | None, home: Path, fuse: int) -> tuple[int, int]:
    """Its exit status, negative for a signal, and how many steps returned."""
    listen, said = _LIVES.Pipe(duplex=False)
    life = _LIVES.Process(target=_live, args=(url, home, fuse, said))
    life.start()
    said.close()
    life.join()
    with os.fdopen(os.dup(listen.fileno()), "rb") as pipe:
        num_done = len(pipe.read())
    listen.close()
    assert life.exitcode is not None
    return life.exitcode, num_done


@pytest.mark.parametrize("tables_are_there", [False, True], ids=["from nothing", "from tables"])
def test_killed_at_every_point(
    make_url: Callable[[], str | None], tmp_path: Path, tables_are_there: bool
) -> None:
    states = _states(tmp_path / "undisturbed")
    made = tmp_path / "tables"
    Store.open(None, made).close()
    for fuse in range(1, MAX_POINTS):
        url, home = make_url(), tmp_path / str(fuse)
        if tables_are_there and url is None:
            shutil.copytree(made, home)
        elif tables_are_there:
            Store.open(url, home).close()
        status, num_done = _one_life(url, home, fuse)
        assert status in (0, -signal.SIGKILL), f"point {fuse}"
        store = Store.open(url, home)
        try:
            assert _state(store) in states[num_done : num_done + 2], f"point {fuse}"
            check_consistent(store, home)
            add_file(store, b"life goes on")
            assert b"life goes on" in contents(home).values()
        finally:
            store.close()
        if num_done and not tables_are_there:
            assert fuse > MIN_POINTS
            return  # what follows is the same whether or not the tables were there
        if status == 0:
            assert num_done == len(STEPS) and fuse > MIN_POINTS
            return
    raise AssertionError(f"more than {MAX_POINTS} points")
