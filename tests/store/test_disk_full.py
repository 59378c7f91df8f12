"""No room: what does not fit is refused with 507, what was there stays, and life goes on."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firefront.core.errors import StorageFullError
from firefront.store.store import Store
from tests.store.inside import add_completion, add_file, check_consistent, in_child, unfinished


@contextmanager
def _files_of_at_most(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond; what the system says then is not ENOSPC but treated alike."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_content_that_does_not_fit(home: Path) -> None:
    def run() -> None:
        store = Store.open(None, home)
        kept = add_file(store, b"x" * 1000)
        with _files_of_at_most(100_000), pytest.raises(StorageFullError) as raised:
            add_file(store, b"y" * 200_000)
        assert raised.value.status == 507
        assert unfinished(home) == []
        check_consistent(store, home)
        add_file(store, b"y" * 200_000)
        assert store.files.open("local", kept.id)[1].read() == b"x" * 1000

    assert in_child(run) == 0


def test_a_database_that_cannot_grow(home: Path) -> None:
    def run() -> None:
        store = Store.open(None, home)
        add_completion(store, "before", metadata={"a": "b"})
        largest = max(path.stat().st_size for path in home.glob("firefront.db*"))
        with _files_of_at_most(largest + 8192):
            with pytest.raises(StorageFullError) as raised:
                add_completion(store, "large", answer={"text": "z" * 1_000_000})
            assert raised.value.status == 507
            assert store.completions.get("local", "before").metadata == {"a": "b"}
            with pytest.raises(StorageFullError):
                add_file(store, b"f", filename="n" * 1_000_000)
            check_consistent(store, home)
        add_completion(store, "large", answer={"text": "z" * 1_000_000})
        assert [c.id for c in store.completions.list("local").items] == ["before", "large"]
        check_consistent(store, home)

    assert in_child(run) == 0


def test_a_full_disk_at_every_write_of_a_content(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call that writes fails, for every n."""
    from firefront.core import disk
    from firefront.store import blobs

    store = Store.open(None, home)
    for fuse in range(1, 20):
        failing = _Failing(fuse)
        for module in (blobs, disk):
            monkeypatch.setattr(module, "os", failing)
        try:
            add_file(store, b"content %d" % fuse)
        except StorageFullError:
            assert failing.failed
        else:
            assert not failing.failed and fuse > 3
            break
        finally:
            monkeypatch.undo()
        check_consistent(store, home)
    else:
        raise AssertionError("it never got through")
    store.close()


class _Failing:
    """The module `os`, out of space at the n-th call that writes."""

    def __init__(self, fuse: int) -> None:
        self._left = fuse
        self.failed = False

    def __getattr__(self, name: str) -> object:
        attribute = getattr(os, name)
        if name not in ("open", "write", "fsync", "rename"):
            return attribute

        def call(*args: object, **kwargs: object) -> object:
            self._left -= 1
            if self._left == 0:
                self.failed = True
                raise OSError(28, "No space left on device")
            return attribute(*args, **kwargs)

        return call
