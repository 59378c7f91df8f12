"""Contents of files, named by their SHA-256 below one folder: `ab/cdef...`.

Knows no database. Invariants: a name appears by one rename, when its content is on disk, so what
has a name is whole; contents pass through in pieces. What a crash leaves (an unfinished content, a
name that no row mentions) is removed by the next `sweep`; contents that a living process is still
writing are locked and stay.
"""

import fcntl
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from firefront.core.disk import disk_errors, make_folder, sync_folder
from firefront.core.errors import FirefrontError

_SHA256 = re.compile("[0-9a-f]{64}")
_INCOMING = "incoming"


class Incoming:
    """A content on its way in. `write` it, `finish` it, then a row names it; or `discard` it."""

    def __init__(self, folder: Path) -> None:
        self._path, self._fd = _create_locked(folder)
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()  # whoever discards may not wait for a write to return
        self.num_bytes = 0
        self.sha256 = ""

    def write(self, data: bytes) -> None:
        """Append; StorageFullError when there is no room."""
        with self._lock, disk_errors():
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        self._digest.update(data)
        self.num_bytes += len(data)

    def finish(self) -> None:
        """After the last `write`: the content is on disk and has its name to be."""
        with disk_errors():
            os.fsync(self._fd)
        self.sha256 = self._digest.hexdigest()

    def publish(self, path: Path) -> None:
        """Give the content its name. What had it before is the same content."""
        assert self.sha256, "finish() comes first"
        with disk_errors():
            make_folder(path.parent)
            os.rename(self._path, path)
            sync_folder(path.parent)
        self._close()

    def discard(self) -> None:
        """Forget it, unless it has its name already. May be called at any time, more than once."""
        with self._lock:
            if self._fd >= 0:
                with suppress(OSError):
                    os.unlink(self._path)
                self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1  # what is written from now on fails


class Blobs:
    """The folder of contents of one store. Callers see to it that `publish`, `remove` and `sweep`
    exclude each other (they hold the database's write lock)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / _INCOMING
        with disk_errors():
            make_folder(self._incoming)

    def incoming(self) -> Incoming:
        """A new content, empty."""
        with disk_errors():
            return Incoming(self._incoming)

    def publish(self, content: Incoming) -> None:
        content.publish(self._path(content.sha256))

    def open(self, sha256: str) -> BinaryIO:
        """The content for reading; it stays readable while open, even if it is removed."""
        try:
            return open(self._path(sha256), "rb")
        except FileNotFoundError:
            raise FirefrontError(
                "the content is not on this machine; gateways that share a database must share "
                "FIREFRONT_HOME too"
            ) from None

    def remove(self, sha256: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path(sha256))

    def sweep(self, named: Set[str]) -> int:
        """Remove what a crash left: all but the contents `named`. How many files that were."""
        num_removed = sum(_remove_stale(path) for path in list(self._incoming.iterdir()))
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            sha256 = path.parent.name + path.name
            if _SHA256.fullmatch(sha256) and sha256 not in named:
                self.remove(sha256)
                num_removed += 1
        return num_removed

    def _path(self, sha256: str) -> Path:
        assert _SHA256.fullmatch(sha256)
        return self._folder / sha256[:2] / sha256[2:]


def _create_locked(folder: Path) -> tuple[Path, int]:
    """A new file that is locked as long as it is open, so that no sweep takes it for a leaving."""
    while True:
        path = folder / secrets.token_hex(16)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return path, fd
        os.close(fd)  # a sweep was between the two lines


def _remove_stale(path: Path) -> bool:
    """Remove an unfinished content unless somebody is still writing it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:  # locked by its writer, or gone
        return False
    finally:
        os.close(fd)
    return True
