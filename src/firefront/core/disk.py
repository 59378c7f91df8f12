"""What it takes for files to outlast a power cut, and what a full disk is called.

Knows no layout and no content. Invariant: a disk without room is a StorageFullError; every other
OSError stays what it is.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from firefront.core.errors import StorageFullError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it, so that they outlast a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def disk_errors() -> Iterator[None]:
    """What the disk refuses, as StorageFullError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            message = f"the content cannot be written: {error.strerror}; free some space"
            raise StorageFullError(message) from error
        raise
