"""The models on disk: FIREFRONT_HOME/models/NAME/ with its files and manifest.json.

Owns the layout, the per-model lock, publication and removal; knows not where files come from.
Invariant: a folder without a leading dot is complete and its manifest's digests were verified; work
in progress lies in models/.partial/NAME and becomes visible by one rename.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from firefront.core.disk import sync_folder
from firefront.core.errors import ModelFileError, NotFoundError, RequestError
from firefront.core.paths import home
from firefront.weights.sources import BUILT_IN, Entry, check_catalog, check_name, load_catalog

MANIFEST = "manifest.json"
REGISTERED = "catalog.json"
_READ_BYTES = 4 << 20


class StoredFile(msgspec.Struct, frozen=True):
    """One published file: its plain name, digest and size in bytes."""

    name: str
    sha256: str
    size: int


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest. `sha256` is the file's, or a folder's: of its sorted `sha256  name` lines."""

    name: str
    spec: str
    sha256: str
    size: int
    license: str | None
    pulled: str  # UTC date and time, ISO 8601
    files: list[StoredFile]
    revision: str | None = None  # commit of a hub repository
    version: int = 1


def folder_sha256(files: list[StoredFile]) -> str:
    """The digest of a model: of its only file, or of the sorted list of its files' digests."""
    if len(files) == 1:
        return files[0].sha256
    lines = sorted(f"{file.sha256}  {file.name}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path, advance: Callable[[int], None] = lambda n: None) -> str:
    """SHA-256 of a file; `advance` is told the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


class ModelStore:
    """The models below `root` (default: FIREFRONT_HOME). Refuses a folder others can write."""

    def __init__(self, root: Path | None = None) -> None:
        self.home = root or home()
        _check_private(self.home)
        self.root = self.home / "models"
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(self.root)

    # -- names -------------------------------------------------------------------------------

    def catalog(self) -> dict[str, Entry]:
        """The built-in names and those registered by `pull --catalog`."""
        registered = self.root / REGISTERED
        entries: dict[str, Entry] = {}
        if registered.exists():
            try:
                entries = check_catalog(
                    msgspec.json.decode(registered.read_bytes()), str(registered)
                )
            except msgspec.DecodeError as error:
                raise RequestError(f"{registered}: {error}; delete it and pull again") from None
        return entries | load_catalog(BUILT_IN)

    def register(self, entries: dict[str, Entry]) -> None:
        """Add names for good. A built-in name can not be given another meaning."""
        for name in load_catalog(BUILT_IN).keys() & entries.keys():
            raise RequestError(
                f"catalog: {name!r} is a built-in name; choose another", param="catalog"
            )
        with self.lock(".catalog", check=False):
            known = self.catalog()
            for name in load_catalog(BUILT_IN):
                known.pop(name)
            write_durably(
                self.root / REGISTERED, msgspec.json.format(msgspec.json.encode(known | entries))
            )

    # -- reading -----------------------------------------------------------------------------

    def get(self, name: str) -> StoredModel | None:
        """The manifest of a published model, or None."""
        folder = self.folder(name)
        manifest = folder / MANIFEST
        if folder.is_symlink() or not manifest.is_file():
            return None
        try:
            return msgspec.json.decode(manifest.read_bytes(), type=StoredModel)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ModelFileError(
                manifest, "manifest", f"{error}; remove the folder and pull again"
            ) from None

    def models(self) -> list[StoredModel]:
        """Every published model, by name."""
        names = sorted(
            p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith(".")
        )
        return [model for name in names if (model := self.get(name)) is not None]

    def folder(self, name: str) -> Path:
        return self.root / check_name(name)

    def path(self, model: StoredModel) -> Path:
        """What to open: the only file, or else the folder. Sizes are checked, digests not."""
        folder = self.folder(model.name)
        for file in model.files:
            path = folder / file.name
            size = path.stat().st_size if path.is_file() else -1
            if size != file.size:
                problem = "is missing" if size < 0 else f"has {size} bytes, expected {file.size}"
                raise ModelFileError(
                    path,
                    "size",
                    f"{problem}; run: firefront rm {model.name} && firefront pull {model.name}",
                )
        return folder / model.files[0].name if len(model.files) == 1 else folder

    def verify(self, model: StoredModel, advance: Callable[[int], None] = lambda n: None) -> None:
        """Read every file and compare digests; ModelFileError names the first that differs."""
        self.path(model)
        for file in model.files:
            path = self.folder(model.name) / file.name
            if file_sha256(path, advance) != file.sha256:
                raise ModelFileError(
                    path,
                    "sha256",
                    f"differs from the manifest; run: firefront rm {model.name} and pull again",
                )

    # -- writing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(
        self, name: str, *, check: bool = True, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Hold the lock of one model, across processes; it goes with the process that held it."""
        locks = self.root / ".locks"
        locks.mkdir(mode=0o700, exist_ok=True)
        path = locks / f"{check_name(name) if check else name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def partial(self, name: str) -> Path:
        """The work folder of a pull; it survives an interruption. Call with the lock held."""
        folder = self.root / ".partial" / check_name(name)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def staging(self, name: str) -> Path:
        """Where a pull puts finished files; `publish` turns this very folder into the model."""
        folder = self.partial(name) / "files"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def discard_partial(self, name: str) -> None:
        """Forget what an interrupted pull left. Call with the lock held."""
        shutil.rmtree(self.root / ".partial" / check_name(name), ignore_errors=True)

    def publish(self, model: StoredModel) -> Path:
        """Make the staged files, verified and synced, the model; the lock is held."""
        staging = self.staging(model.name)
        wanted = {file.name for file in model.files}
        for path in staging.iterdir():
            if path.name not in wanted:
                path.unlink()
        write_durably(staging / MANIFEST, msgspec.json.format(msgspec.json.encode(model)))
        target = self.folder(model.name)
        if target.exists() or target.is_symlink():
            self.remove(model.name)
        os.rename(staging, target)
        sync_folder(self.root)
        self.discard_partial(model.name)
        return target

    def remove(self, name: str) -> None:
        """Delete a model; it disappears at once, then its bytes go. The lock is held."""
        target = self.folder(name)
        if target.is_symlink():
            target.unlink()
            return
        if not target.is_dir():
            raise NotFoundError(f"model {name!r} is not in {self.root}", param="model")
        grave = self.root / ".partial" / f".removed-{check_name(name)}-{os.getpid()}"
        grave.parent.mkdir(mode=0o700, exist_ok=True)
        os.rename(target, grave)
        shutil.rmtree(grave)


def manifest_sha256(path: Path) -> str | None:
    """The digest of a published model, by its file or folder; None of files of one's own."""
    manifest = (path if path.is_dir() else path.parent) / MANIFEST
    try:
        return msgspec.json.decode(manifest.read_bytes(), type=StoredModel).sha256
    except (OSError, msgspec.DecodeError):  # a ValidationError is one
        return None


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def _check_private(folder: Path) -> None:
    status = folder.stat()
    if status.st_mode & 0o002:
        raise RequestError(
            f"{folder}: anyone on this machine can write here; run: chmod 700 {folder}",
            param="FIREFRONT_HOME",
        )
    if status.st_uid not in (0, os.geteuid()):
        raise RequestError(
            f"{folder}: belongs to another user; set FIREFRONT_HOME to a folder of your own",
            param="FIREFRONT_HOME",
        )
