"""Adapters on disk: FOLDER/DIGEST/ with PEFT's two files, and a chat template where there is one.

Owns the layout, copies in and removal. Knows no names and not what a file means. Invariants: a
folder named by a digest holds exactly the files that hash to it, it comes by one rename and goes by
one; what is under way lies in .partial/, locked by whoever is at it, and is gone after a crash at
the next `sweep`.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from firefront.core.disk import disk_errors, make_folder, sync_folder
from firefront.core.errors import ModelFileError, NotFoundError
from firefront.weights.adapter import PICKLE, WEIGHTS, check_folder
from firefront.weights.adapter_config import CONFIG, MAX_CONFIG_BYTES
from firefront.weights.model_store import StoredFile, file_sha256, folder_sha256

TEMPLATE = "chat_template.jinja"
MAX_BYTES = {CONFIG: MAX_CONFIG_BYTES, WEIGHTS: 8 << 30, TEMPLATE: 1 << 20}
_PARTIAL = ".partial"
_LOCK = ".lock"
_SHA256 = re.compile("[0-9a-f]{64}")
_PIECE_BYTES = 4 << 20


class Staged:
    """An adapter on its way in: `path` has its files. `publish` it or `discard` it, from any
    thread: who waited for a thread may give up before it does."""

    def __init__(self, path: Path, fd: int, files: list[StoredFile]) -> None:
        self.path = path
        self.sha256 = folder_sha256(files)
        by_name = {file.name: file.sha256 for file in files}
        self.template_sha256 = by_name.get(TEMPLATE)
        self._fd = fd
        self._ending = threading.RLock()

    def publish(self, target: Path) -> None:
        """Give the files their name. What has it already, whole, is the same."""
        with self._ending, disk_errors():
            if target.exists() and _sha256_of(target) == self.sha256:
                self.discard()
                return
            _bury(target, self.path.parent)
            os.rename(self.path, target)
            sync_folder(target.parent)
            self._close()

    def discard(self) -> None:
        """Forget it, unless it has its name already. May be called more than once."""
        with self._ending:
            if self._fd >= 0:
                shutil.rmtree(self.path, ignore_errors=True)
                self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


class AdapterStore:
    """The adapters of one store. Whoever publishes or removes holds `lock`, and in it changes the
    rows that name them, so that an adapter with a row always has its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._partial = folder / _PARTIAL
        with disk_errors():
            make_folder(self._partial)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other threads and processes from publishing and removing."""
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def stage(self, source: Path) -> Staged:
        """Copy an adapter's files, and nothing else that is in `source`.

        ModelFileError names what is missing, too large or no file; StorageFullError: no room.
        """
        with disk_errors():
            path, fd = _create_locked(self._partial)
        try:
            files = _copy_all(_folder(source), path)
            with disk_errors():
                os.fsync(fd)
            return Staged(path, fd, files)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)
            raise

    def publish(self, staged: Staged) -> None:
        """Make it an adapter of this store. With `lock` held."""
        staged.publish(self._path(staged.sha256))

    def path(self, sha256: str) -> Path:
        """Where the adapter lies; NotFoundError if it does not."""
        path = self._path(sha256)
        if not path.is_dir():
            raise NotFoundError(
                f"the adapter's files are not on this machine ({path}); gateways that share a "
                "database must share FIREFRONT_HOME too"
            )
        return path

    def remove(self, sha256: str) -> None:
        """Delete an adapter's files; it is gone at once, then its bytes. With `lock` held."""
        _bury(self._path(sha256), self._partial)

    def sweep(self, named: Set[str]) -> int:
        """Remove what crashes left: all but the digests `named`. How many folders. `lock` held."""
        num_removed = sum(_remove_stale(path) for path in list(self._partial.iterdir()))
        for path in list(self.folder.iterdir()):
            if _SHA256.fullmatch(path.name) and path.name not in named:
                self.remove(path.name)
                num_removed += 1
        return num_removed

    def _path(self, sha256: str) -> Path:
        assert _SHA256.fullmatch(sha256)
        return self.folder / sha256


def adapter_sha256(folder: Path) -> str:
    """What a store would call the adapter in this folder. ModelFileError if a file is missing or
    cannot be read."""
    check_folder(folder)
    try:
        return _sha256(folder, _names(folder))
    except OSError as error:
        raise ModelFileError(folder, "file", f"cannot be read: {error}") from None


def read_template(folder: Path) -> str | None:
    """The chat template beside an adapter's files, if there is one. ModelFileError if it cannot be
    read."""
    file = folder / TEMPLATE
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ModelFileError(file, "chat_template", f"is not UTF-8: {error}") from None
    except OSError as error:
        raise ModelFileError(file, "chat_template", f"cannot be read: {error.strerror}") from None


def _folder(source: Path) -> Path:
    """`source` without links, or ModelFileError."""
    try:
        folder = source.resolve(strict=True)
        is_folder = folder.is_dir()
    except (OSError, ValueError, RuntimeError):
        raise ModelFileError(source, "folder", "does not exist or cannot be opened") from None
    if not is_folder:
        raise ModelFileError(
            source,
            "folder",
            f"is no folder; name the one that holds {CONFIG} and {WEIGHTS}, or a .gguf file",
        )
    return folder


def _copy_all(source: Path, target: Path) -> list[StoredFile]:
    return [_copy(source, name, target / name) for name in _names(source)]


def _names(folder: Path) -> list[str]:
    """Of the files that make the adapter in a folder."""
    return [name for name in MAX_BYTES if name != TEMPLATE or os.path.lexists(folder / name)]


def _copy(source: Path, name: str, target: Path) -> StoredFile:
    limit, size, digest = MAX_BYTES[name], 0, hashlib.sha256()
    given = _open(source, name)
    try:
        with disk_errors():
            taken = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while piece := _read(given, source / name):
                size += len(piece)
                if size > limit:
                    raise ModelFileError(source / name, "size", f"more than {limit} bytes")
                digest.update(piece)
                with disk_errors():
                    _write_all(taken, piece)
            with disk_errors():
                os.fsync(taken)
        finally:
            os.close(taken)
    finally:
        os.close(given)
    return StoredFile(name, digest.hexdigest(), size)


def _read(fd: int, path: Path) -> bytes:
    try:
        return os.read(fd, _PIECE_BYTES)
    except OSError as error:
        raise ModelFileError(path, "file", f"cannot be read: {error.strerror}") from None


def _write_all(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def _open(source: Path, name: str) -> int:
    """A regular file of the folder, for reading. Links may not lead out of it, but for those of the
    hub's cache, whose snapshots are links into its blobs."""
    path = source / name
    try:
        real = path.resolve(strict=True)
        homes = [source, source.parents[1] / "blobs"] if source.parent.name == "snapshots" else []
        if path.is_symlink() and not any(map(real.is_relative_to, homes or [source])):
            raise ModelFileError(path, "link", "leads out of the folder; put the file itself there")
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, RuntimeError) as error:
        problem = "is missing"
        if name == WEIGHTS and (source / PICKLE).exists():
            problem = (
                f"is missing; {PICKLE} is a pickle, which can run code and is refused: save the "
                "adapter again with safe_serialization=True"
            )
        elif name == CONFIG and (file := next(source.glob("*.gguf"), None)) is not None:
            problem = f"is missing; to load a GGUF adapter name the file itself, {file.name}"
        elif getattr(error, "errno", 0) != errno.ENOENT:
            problem = f"cannot be opened: {error}"
        raise ModelFileError(path, "file", problem) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ModelFileError(path, "file", "is no regular file")
    return fd


def _sha256_of(folder: Path) -> str | None:
    """The digest of a published folder as it is now; None if a file cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return _sha256(folder, [entry.name for entry in entries])
    except OSError:
        return None


def _sha256(folder: Path, names: Iterable[str]) -> str:
    return folder_sha256([StoredFile(name, file_sha256(folder / name), 0) for name in names])


def _bury(path: Path, partial: Path) -> None:
    """Delete a folder by a rename, so that nobody sees half of it."""
    grave = partial / secrets.token_hex(16)
    with suppress(FileNotFoundError):
        os.rename(path, grave)
        sync_folder(path.parent)
        shutil.rmtree(grave, ignore_errors=True)


def _create_locked(folder: Path) -> tuple[Path, int]:
    """A new folder, locked as long as it is open, so that no sweep takes it for a leaving."""
    while True:
        path = folder / secrets.token_hex(16)
        path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(fd).st_ino:
                    return path, fd
            os.close(fd)  # a sweep was between the lines


def _remove_stale(path: Path) -> bool:
    """Remove what nobody is at any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:  # locked by its writer
        return False
    finally:
        os.close(fd)
    return True
