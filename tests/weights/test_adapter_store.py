"""Adapters' folders: whole or not there, whatever is put in and whenever it is killed."""

import os
import resource
import shutil
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firefront.core import disk
from firefront.core.errors import ModelFileError, NotFoundError, StorageFullError
from firefront.weights import adapter_store
from firefront.weights.adapter_store import AdapterStore, read_template
from tests.store.inside import in_child

CALLS = {"open", "write", "fsync", "rename", "read", "stat"}


def given(folder: Path, weights: bytes = b"w" * 1000, **files: bytes) -> Path:
    """A folder as PEFT and trainers leave it."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    for name in ("README.md", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(b"not ours")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def put(store: AdapterStore, source: Path) -> str:
    staged = store.stage(source)
    try:
        with store.lock():
            store.publish(staged)
    finally:
        staged.discard()
    return staged.sha256


def shown(store: AdapterStore) -> set[str]:
    return {path.name for path in store.folder.iterdir() if not path.name.startswith(".")}


def test_discarding_while_it_is_published_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server ends while a thread of it is at it."""
    store, discarding = AdapterStore(tmp_path / "a"), []
    staged, bury = store.stage(given(tmp_path / "in")), adapter_store._bury

    def meanwhile(path: Path, partial: Path) -> None:
        bury(path, partial)
        discarding.append(threading.Thread(target=staged.discard))
        discarding[0].start()
        discarding[0].join(0.2)

    monkeypatch.setattr(adapter_store, "_bury", meanwhile)
    store.publish(staged)
    discarding[0].join()
    assert len(list(store.path(staged.sha256).iterdir())) == 2


def test_two_files_and_a_template_are_kept_and_nothing_else(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "a" / "b")
    old_mask = os.umask(0)
    try:
        plain = put(store, given(tmp_path / "plain"))
    finally:
        os.umask(old_mask)
    source = given(tmp_path / "chat", chat_template__jinja=b"{{ messages }}")
    assert store.stage(source).template_sha256 is not None
    chat = put(store, source)
    assert {path.name for path in store.path(plain).iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert (store.path(chat) / "chat_template.jinja").read_bytes() == b"{{ messages }}"
    for path in [store.path(plain), *store.path(plain).iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert shown(store) == {plain, chat}


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "store")
    first = put(store, given(tmp_path / "1"))
    assert put(store, given(tmp_path / "2")) == first
    assert put(store, given(tmp_path / "3", b"other")) != first
    swapped = given(tmp_path / "4", b"{}")
    (swapped / "adapter_config.json").write_bytes(b"w" * 1000)
    assert put(store, swapped) != first


def test_damage_is_repaired_by_putting_it_again(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "store")
    source = given(tmp_path / "source")
    sha256 = put(store, source)
    weights = store.path(sha256) / "adapter_model.safetensors"
    weights.write_bytes(b"damaged")
    assert put(store, source) == sha256 and weights.read_bytes() == b"w" * 1000
    weights.unlink()
    assert put(store, source) == sha256 and weights.read_bytes() == b"w" * 1000


def test_removal_and_sweep(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "store")
    first, second = put(store, given(tmp_path / "1", b"1")), put(store, given(tmp_path / "2"))
    store.remove(first)
    store.remove(first)  # gone is gone
    with pytest.raises(NotFoundError, match="not on this machine"):
        store.path(first)
    staged = store.stage(tmp_path / "1")
    assert AdapterStore(store.folder).sweep({second}) == 0  # somebody is at it
    staged.discard()
    assert store.sweep(set()) == 1 and shown(store) == set()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    source = given(tmp_path / "source")
    (source / name).unlink()
    with pytest.raises(ModelFileError, match=f"{name}: file: is missing"):
        AdapterStore(tmp_path / "store").stage(source)


def test_pickles_are_refused_with_the_fix(tmp_path: Path) -> None:
    source = given(tmp_path / "source", adapter_model__bin=b"\x80\x04")
    (source / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="safe_serialization=True"):
        AdapterStore(tmp_path / "store").stage(source)


def test_a_template_is_read_or_refused_by_name(tmp_path: Path) -> None:
    assert read_template(given(tmp_path / "none")) is None
    with_one = given(tmp_path / "one", chat_template__jinja="{{ 'grüezi' }}".encode())
    assert read_template(with_one) == "{{ 'grüezi' }}"
    odd = given(tmp_path / "odd", chat_template__jinja=b"\xff")
    with pytest.raises(ModelFileError, match="chat_template.jinja: chat_template: is not UTF-8"):
        read_template(odd)
    (with_one / "chat_template.jinja").unlink()
    (with_one / "chat_template.jinja").mkdir()
    with pytest.raises(ModelFileError, match="chat_template: cannot be read: Is a directory"):
        read_template(with_one)


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        (source / "adapter_config.json").unlink()
        make(source / "adapter_config.json")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (replaced_by(lambda path: path.symlink_to("/etc/passwd")), "leads out of the folder"),
        (replaced_by(lambda path: path.symlink_to("../outside.json")), "leads out of the folder"),
        (replaced_by(lambda path: path.symlink_to("adapter_config.json")), "cannot be opened"),
        (replaced_by(os.mkfifo), "is no regular file"),
        (replaced_by(Path.mkdir), "is no regular file"),
        (replaced_by(lambda path: path.write_bytes(b" " * ((1 << 20) + 1))), "more than 1048576"),
        (shutil.rmtree, "does not exist"),
        (lambda path: (shutil.rmtree(path), path.write_bytes(b"")), "is no folder"),
    ],
)
def test_hostile_folders(tmp_path: Path, spoil: Callable[[Path], Any], problem: str) -> None:
    (tmp_path / "outside.json").write_text("{}")
    source = given(tmp_path / "source")
    spoil(source)
    store = AdapterStore(tmp_path / "store")
    with pytest.raises(ModelFileError, match=problem):
        store.stage(source)
    assert list(store.folder.glob(".partial/*")) == []


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    """Within the folder, and from a snapshot in the hub's cache to its blobs."""
    repository = tmp_path / "models--org--name"
    snapshot = given(repository / "snapshots" / "abc")
    (repository / "blobs").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (snapshot / name).rename(repository / "blobs" / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    store = AdapterStore(tmp_path / "store")
    assert put(store, snapshot) == put(store, given(tmp_path / "plain"))
    inside = given(tmp_path / "inside")
    (inside / "adapter_config.json").rename(inside / "real.json")
    (inside / "adapter_config.json").symlink_to("real.json")
    (tmp_path / "link").symlink_to(inside)
    assert put(store, tmp_path / "link") == put(store, tmp_path / "plain")


class _Counting:
    """The module `os`, with something that happens before the n-th call that matters."""

    def __init__(self, fuse: int, happens: Callable[[], None]) -> None:
        self._left, self._happens = fuse, happens

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(os, name)
        if name not in CALLS:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self._happens()
            return attribute(*args, **kwargs)

        return call


def plant(monkeypatch: Any, fuse: int, happens: Callable[[], None]) -> None:
    counting = _Counting(fuse, happens)
    for module in (adapter_store, disk):
        monkeypatch.setattr(module, "os", counting)


def test_killed_at_every_point(tmp_path: Path) -> None:
    """What is shown is whole; what was acknowledged is there; nothing is left of the rest."""
    source, later = given(tmp_path / "source"), given(tmp_path / "later", b"later")
    expected = put(AdapterStore(tmp_path / "whole"), source)
    for fuse in range(1, 100):
        folder = tmp_path / str(fuse)

        def run() -> None:
            patch = pytest.MonkeyPatch()
            plant(patch, fuse, lambda: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B023
            store = AdapterStore(folder)  # noqa: B023
            put(store, source)
            store.remove(put(store, later))

        status = in_child(run)
        assert status in (0, -signal.SIGKILL), f"point {fuse}"
        store = AdapterStore(folder)
        for name in shown(store):
            assert adapter_store._sha256_of(store.path(name)) == name, f"point {fuse}"
        store.sweep({expected})
        assert shown(store) <= {expected} and list(store.folder.glob(".partial/*")) == []
        assert put(store, source) == expected
        if status == 0:
            assert fuse > 30
            return
    raise AssertionError("it never got through")


def test_a_full_disk_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = given(tmp_path / "source")
    store = AdapterStore(tmp_path / "store")
    monkeypatch.setattr(f"{__name__}.CALLS", {"write", "fsync", "rename"})
    num_failures = 0
    for fuse in range(1, 30):

        def fail() -> None:
            raise OSError(28, "No space left on device")

        plant(monkeypatch, fuse, fail)
        try:
            put(store, source)
            break
        except StorageFullError as error:
            assert error.status == 507 and "free some space" in str(error)
            num_failures += 1
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(f"{__name__}.CALLS", {"write", "fsync", "rename"})
        assert shown(store) <= {put(AdapterStore(tmp_path / "other"), source)}
        store.sweep(set())
    assert num_failures >= 5


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    source = given(tmp_path / "source", b"x" * 200_000)

    def run() -> None:
        store = AdapterStore(tmp_path / "store")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with pytest.raises(StorageFullError):
            store.stage(source)
        assert list(store.folder.glob(".partial/*")) == [] and shown(store) == set()

    assert in_child(run) == 0
