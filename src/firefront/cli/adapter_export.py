"""`firefront adapters export`: an adapter's files for elsewhere, as PEFT or llama.cpp has them.

What is written appears by one rename, and never over what is there unless that was asked for.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DTYPES = ("f32", "f16")


@dataclass(frozen=True)
class Export:
    """What is to be written, and where. `base` for GGUF, which names the base's tensors."""

    name: str  # as BASE:NAME
    folder: Path
    base: Path | None
    output: Path
    dtype: str
    replaces: bool


def export(wanted: Export) -> dict[str, Any]:
    """Write it and say what was. RequestError where there is something already."""
    from firefront.weights.adapter_store import MAX_BYTES, TEMPLATE

    is_gguf = wanted.base is not None
    own_names = () if is_gguf else tuple(MAX_BYTES)
    with _appearing(wanted.output, own_names, replaces=wanted.replaces) as partial:
        if is_gguf:
            _write_gguf(wanted, partial)
        else:
            _copy(wanted.folder, partial)
    is_left_out = is_gguf and (wanted.folder / TEMPLATE).exists()
    return {
        "adapter": wanted.name,
        "output": str(wanted.output),
        "format": "gguf" if is_gguf else "peft",
        "left_out": [TEMPLATE] if is_left_out else [],
    }


def _write_gguf(wanted: Export, file: Path) -> None:
    import numpy as np

    from firefront.weights.adapter import open_adapter
    from firefront.weights.adapter_gguf import write_gguf_adapter
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.layout import adapter_shapes

    assert wanted.base is not None
    with open_checkpoint(wanted.base) as checkpoint:
        config = checkpoint.config
    adapter = open_adapter(wanted.folder, adapter_shapes(config))
    dtype = np.float16 if wanted.dtype == "f16" else np.float32
    write_gguf_adapter(file, adapter, config, wanted.name, dtype)


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for name in sorted(os.listdir(source)):
        with (source / name).open("rb") as given, (target / name).open("xb") as taken:
            shutil.copyfileobj(given, taken)
            taken.flush()
            os.fsync(taken.fileno())


@contextmanager
def _appearing(output: Path, own_names: tuple[str, ...], *, replaces: bool) -> Iterator[Path]:
    """A path beside `output` to write a file to, or a folder of `own_names`; it takes the name of
    `output` at the end."""
    from firefront.core.disk import sync_folder
    from firefront.core.errors import RequestError

    partial = output.parent / f".{output.name}.{os.getpid()}"
    try:
        _check(output, own_names, replaces=replaces)
        output.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _check(output, own_names, replaces=replaces)
        if own_names and os.path.lexists(output):
            _exchange(partial, output)
        else:
            partial.rename(output)
        sync_folder(output.parent)
    except OSError as error:
        place = error.filename or output
        raise RequestError(f"--output {place}: {error.strerror}", param="output") from None
    finally:
        _remove(partial)


def _exchange(partial: Path, output: Path) -> None:
    """Put a folder in another's place; the other is back if that fails."""
    old = partial.with_name(f"{partial.name}.old")
    output.rename(old)
    try:
        partial.rename(output)
    except BaseException:
        old.rename(output)
        raise
    _remove(old)


def _check(output: Path, own_names: tuple[str, ...], *, replaces: bool) -> None:
    """RequestError for what is there and must stay."""
    from firefront.core.errors import RequestError

    if not os.path.lexists(output):
        return
    problem = None
    if not replaces:
        problem = "exists; name another path, or take its place with --replace"
    elif not own_names and not output.is_file():
        problem = "is no file; name one"
    elif not own_names and not _is_gguf(output):
        problem = "is not GGUF; name another file"
    elif own_names and (output.is_symlink() or not output.is_dir()):
        problem = "is no folder; name one"
    elif own_names and (others := set(os.listdir(output)).difference(own_names)):
        problem = f"has more in it than an adapter ({min(others)}); name another folder"
    if problem is not None:
        raise RequestError(f"--output {output}: {problem}", param="output")


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
