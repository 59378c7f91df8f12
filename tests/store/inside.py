"""What the tests do to a store that its users cannot: look inside, add accounts, run in a child."""

import contextlib
import hashlib
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from firefront.store import tables
from firefront.store.adapters import StoredAdapter
from firefront.store.files import File
from firefront.store.jobs import StoredJob
from firefront.store.pipelines import StoredPipeline
from firefront.store.store import Store


def add_account(store: Store, id: str) -> str:
    with store._database.write() as connection:
        connection.execute(sa.insert(tables.accounts).values(id=id, created_at=int(time.time())))
    return id


def rows(store: Store, table: sa.Table) -> list[Any]:
    with store._database.read() as connection:
        return list(connection.execute(sa.select(table)))


def add_file(store: Store, content: bytes, account: str = "local", **fields: Any) -> File:
    incoming = store.files.incoming()
    try:
        incoming.write(content)
        incoming.finish()
        fields = {"filename": "a.txt", "purpose": "user_data", **fields}
        return store.files.create(account, incoming, **fields)
    finally:
        incoming.discard()


def add_completion(store: Store, id: str, account: str = "local", **fields: Any) -> None:
    fields = {
        "created_at": 1,
        "model": "m",
        "priority": 0,
        "metadata": {},
        "request": {"messages": []},
        "answer": {"id": id},
        **fields,
    }
    store.completions.create(account, id=id, **fields)


def add_response(store: Store, id: str, account: str = "local", **fields: Any) -> None:
    fields = {
        "created_at": 1,
        "model": "m",
        "priority": 0,
        "status": "in_progress",
        "previous_response_id": None,
        "metadata": {},
        "input_items": [],
        "response": {"id": id},
        **fields,
    }
    store.responses.create(account, id=id, **fields)


def add_adapter(store: Store, name: str, account: str = "local", **fields: Any) -> StoredAdapter:
    fields = {
        "base": "base",
        "rank": 4,
        "targets": ["q_proj"],
        "sha256": "0" * 64,
        **fields,
    }
    return store.adapters.create(account, name=name, **fields)


def add_job(store: Store, account: str = "local", **fields: Any) -> StoredJob:
    fields = {
        "kind": "k",
        "prefix": "job-",
        "model": "m",
        "status": "queued",
        "request": {},
        "metadata": {},
        **fields,
    }
    return store.jobs.create(account, **fields)


def contents(home: Path) -> dict[str, bytes]:
    """All published contents below the folder of blobs, by the digest they are named after."""
    found = {}
    for path in (home / "blobs").glob("*/[0-9a-f][0-9a-f]/*"):
        found[path.parent.name + path.name] = path.read_bytes()
    return found


def unfinished(home: Path) -> list[Path]:
    return list((home / "blobs").glob("*/incoming/*"))


def check_consistent(store: Store, home: Path) -> None:
    """What must hold between any two operations, whatever happened before."""
    files = rows(store, tables.files)
    blobs = rows(store, tables.blobs)
    on_disk = contents(home)
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in on_disk.items())
    assert set(on_disk) == {blob.sha256 for blob in blobs}
    assert {(f.account_id, f.sha256) for f in files} == {(b.account_id, b.sha256) for b in blobs}
    for named in [*files, *blobs]:
        assert named.num_bytes == len(on_disk[named.sha256])
    assert unfinished(home) == []
    pairs = {(p.completion_id, p.key, p.value) for p in rows(store, tables.completion_metadata)}
    kept = rows(store, tables.completions)
    assert pairs == {(c.id, key, value) for c in kept for key, value in c.metadata.items()}


def in_child(function: Callable[[], None]) -> int:
    """Run `function` in a forked process; its exit status, negative for a signal.

    An exception is printed there and ends it with 1. Close every store before: connections do not
    survive a fork.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            with contextlib.suppress(Exception):
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_once(functions: list[Callable[[], None]]) -> None:
    """Run each in a process of its own, all let go together."""
    wait, go = os.pipe()
    children = []
    for function in functions:
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(wait, 1)  # returns when the parent closes its end
            os._exit(in_child(function))
        children.append(child)
    os.close(go)
    os.close(wait)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(functions)


def add_pipeline(store: Store, account: str = "local", **fields: Any) -> StoredPipeline:
    fields = {
        "name": "intent",
        "base": "base",
        "metadata": {},
        "definition": {"data": {"file": "f"}},
        "state": {"version": 1},
        **fields,
    }
    return store.pipelines.create(account, **fields)
