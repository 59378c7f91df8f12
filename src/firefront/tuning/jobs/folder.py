"""A job's folder, and what goes between it and the store: files come in, results go out.

Knows no kind of job. Invariants: whoever is in the folder is alone there; a copy is whole, and a
result is kept once however often it is made.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firefront.core.disk import disk_errors
from firefront.core.errors import NotFoundError, OverloadedError, RequestError
from firefront.store.files import File
from firefront.store.jobs import StoredJob
from firefront.store.store import Store
from firefront.tuning.line_files import replacing

_LOCK_LIMIT_S = 30.0
_PIECE_BYTES = 4 << 20


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The folder, made and locked; another process may need a moment to leave it."""
    with disk_errors():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + _LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise OverloadedError(f"{folder}: another process works here") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(fd)


def file_of(store: Store, account_id: str, file_id: str, param: str) -> File:
    """What the store knows of a job's file; RequestError if it was deleted."""
    try:
        return store.files.get(account_id, file_id)
    except NotFoundError:
        raise _deleted(param, file_id) from None


def fetch(store: Store, account_id: str, file_id: str, path: Path, param: str) -> File:
    """Copy a file of the store to `path`; RequestError if it was deleted."""
    try:
        file, content = store.files.open(account_id, file_id)
    except NotFoundError:
        raise _deleted(param, file_id) from None
    with content, replacing(path) as copy:
        shutil.copyfileobj(content, copy, _PIECE_BYTES)
    return file


def keep(store: Store, job: StoredJob, name: str, data: bytes, purpose: str) -> str:
    """A result file in the store, once; its id."""
    file_id = f"file-{job.id.rpartition('-')[2]}-{name.partition('.')[0]}"
    try:
        return store.files.get(job.account_id, file_id).id
    except NotFoundError:
        content = store.files.incoming()
    try:
        content.write(data)
        content.finish()
        return store.files.create(
            job.account_id, content, id=file_id, filename=name, purpose=purpose
        ).id
    finally:
        content.discard()


def _deleted(param: str, file_id: str) -> RequestError:
    message = f"{param}: {file_id} was deleted; upload it again"
    return RequestError(message, param=param, code=f"invalid_{param.partition('[')[0]}")
