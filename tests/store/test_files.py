"""Files: contents that several rows share, expiry, and what an account may see."""

from collections.abc import Callable
from pathlib import Path

import pytest

from firefront.core.errors import NotFoundError, RequestError
from firefront.store import tables
from firefront.store.store import Store
from tests.store.inside import add_account, add_file, check_consistent, contents, rows, unfinished


def test_a_file_comes_back_as_it_was(store: Store) -> None:
    data = bytes(range(256)) * 5000
    file = add_file(store, data, filename="日本 'x\".bin", purpose="batch")
    assert file.id.startswith("file-") and file.num_bytes == len(data)
    assert store.files.get("local", file.id) == file
    found, content = store.files.open("local", file.id)
    with content:
        assert found == file and content.read() == data
    assert [f.id for f in store.files.list("local").items] == [file.id]


def test_equal_contents_are_kept_once_and_go_with_the_last_row(store: Store, home: Path) -> None:
    other = add_account(store, "other")
    first, second = add_file(store, b"same"), add_file(store, b"same")
    third = add_file(store, b"same", other)
    assert first.sha256 == second.sha256 and len(contents(home)) == 1
    assert len(rows(store, tables.blobs)) == 2  # one for each account
    for account, file in (("local", first), ("local", second), (other, third)):
        assert contents(home) == {first.sha256: b"same"}
        store.files.delete(account, file.id)
        check_consistent(store, home)
    assert contents(home) == {} and rows(store, tables.blobs) == []


def test_an_open_content_outlives_its_file(store: Store) -> None:
    file = add_file(store, b"still here")
    _, content = store.files.open("local", file.id)
    store.files.delete("local", file.id)
    with content:
        assert content.read() == b"still here"
    with pytest.raises(NotFoundError):
        store.files.open("local", file.id)


def test_an_empty_file(store: Store) -> None:
    file = add_file(store, b"")
    assert store.files.open("local", file.id)[1].read() == b""


def test_what_is_not_kept_leaves_nothing(store: Store, home: Path) -> None:
    incoming = store.files.incoming()
    incoming.write(b"half")
    incoming.discard()
    incoming.discard()
    with pytest.raises(OSError):
        incoming.write(b"more")
    assert unfinished(home) == []


def test_an_id_can_be_chosen_once(store: Store, home: Path) -> None:
    add_file(store, b"one", id="file_id")
    with pytest.raises(RequestError, match="id: a file 'file_id' exists"):
        add_file(store, b"two", id="file_id")
    with pytest.raises(RequestError, match="^id: "):
        add_file(store, b"three", id="../etc/passwd")
    assert store.files.get("local", "file_id").num_bytes == 3
    check_consistent(store, home)


@pytest.mark.parametrize("chosen", ["purpose", "filename"])
def test_text_that_no_database_takes_is_refused(store: Store, home: Path, chosen: str) -> None:
    for text in ("a\x00b", "a\ud800"):
        with pytest.raises(RequestError):
            add_file(store, b"x", **{chosen: text})
    check_consistent(store, home)


def test_expired_files_vanish(open_store: Callable[..., Store], home: Path) -> None:
    now = 1000.0
    store = open_store(now=lambda: now)
    kept = add_file(store, b"kept")
    dated = add_file(store, b"dated", expires_after_s=60)
    assert dated.expires_at == 1060
    now = 1059.0
    assert store.files.get("local", dated.id) == dated
    now = 1060.0
    for look in (store.files.get, store.files.open, store.files.delete):
        with pytest.raises(NotFoundError):
            look("local", dated.id)
    assert [f.id for f in store.files.list("local").items] == [kept.id]
    assert store.files.list("local", after=dated.id, order="desc").items == [kept]
    assert len(contents(home)) == 2
    add_file(store, b"another")  # the next upload makes room
    assert len(contents(home)) == 2
    check_consistent(store, home)


def test_expired_files_are_gone_after_opening(
    open_store: Callable[..., Store], home: Path
) -> None:
    now = 1000.0
    store = open_store(now=lambda: now)
    add_file(store, b"dated", expires_after_s=60)
    store.close()
    now = 2000.0
    open_store(now=lambda: now)
    assert contents(home) == {}


def test_list_by_purpose(store: Store) -> None:
    batch = add_file(store, b"1", purpose="batch")
    add_file(store, b"2", purpose="vision")
    assert store.files.list("local", purpose="batch").items == [batch]
    assert store.files.list("local", purpose="nothing").items == []
    with pytest.raises(RequestError, match="^purpose: "):
        store.files.list("local", purpose="\x00")


def test_opening_clears_away_what_no_row_names(
    open_store: Callable[..., Store], home: Path
) -> None:
    store = open_store()
    file = add_file(store, b"kept")
    folder = next((home / "blobs").iterdir())
    store.close()
    (folder / "incoming" / "abandoned").write_bytes(b"x")
    (folder / "ab").mkdir()
    (folder / "ab" / ("c" * 62)).write_bytes(b"nobody's")
    (folder / "ab" / "not a digest").write_bytes(b"")
    check_contents = open_store()
    assert set(contents(home)) == {file.sha256, "abnot a digest"}
    assert unfinished(home) == []
    with check_contents.files.open("local", file.id)[1] as content:
        assert content.read() == b"kept"


def test_opening_leaves_alone_what_is_being_written(open_store: Callable[..., Store]) -> None:
    store = open_store()
    incoming = store.files.incoming()
    incoming.write(b"slow")
    open_store()  # as another process would: the lock belongs to the open file
    incoming.write(b"ly")
    incoming.finish()
    file = store.files.create("local", incoming, filename="x", purpose="batch")
    assert store.files.open("local", file.id)[1].read() == b"slowly"


def test_databases_of_one_home_keep_their_contents_apart(home: Path, tmp_path: Path) -> None:
    first = Store.open(None, home)
    file = add_file(first, b"of the first")
    second = Store.open(f"sqlite:///{tmp_path / 'second.db'}", home)
    second.close()
    assert first.files.open("local", file.id)[1].read() == b"of the first"
    first.close()
