"""Files made of some lines of another file, and the manifests beside them.

Knows nothing of what lines mean. Invariants: a file appears whole, by a rename, or not at all;
lines are written byte for byte as they were, without the white space around them.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from firefront.core.errors import RequestError, StorageFullError
from firefront.tuning.rows import open_rows, read_lines


def copy_lines(
    path: Path, sha256: str, outputs: Mapping[Path, Set[int]]
) -> dict[Path, dict[str, Any]]:
    """Write to each output the lines of `path` with these numbers; name, digest, size and rows of
    each. RequestError if the content of `path` no longer has the digest `sha256`."""
    records: dict[Path, dict[str, Any]] = {
        out: {"name": out.name, "num_bytes": 0, "num_rows": 0} for out in outputs
    }
    digests = {out: hashlib.sha256() for out in outputs}
    with open_rows(path) as stream, ExitStack() as stack:
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
            raise RequestError(f"{path.name}: was changed while it was read; begin anew")
        stream.seek(0)
        files = {out: stack.enter_context(replacing(out)) for out in outputs}
        for number, line in read_lines(stream, path.name):
            for out, numbers in outputs.items():
                if line is not None and number in numbers:
                    data = line.strip() + b"\n"
                    files[out].write(data)
                    digests[out].update(data)
                    records[out]["num_bytes"] += len(data)
                    records[out]["num_rows"] += 1
    for out, digest in digests.items():
        records[out]["sha256"] = digest.hexdigest()
    return records


def write_manifest(out: Path, record: Mapping[str, Any]) -> None:
    """The record beside the data set `out`."""
    write_json_file(manifest_path(out), record)


def manifest_path(out: Path) -> Path:
    """Where the manifest of a data set lies."""
    return out.with_name(out.name + ".manifest.json")


def write_json_file(path: Path, value: Mapping[str, Any]) -> None:
    """Give `path` this content, for people to read too."""
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends well, else leaves nothing. StorageFullError
    for what the disk refuses."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageFullError(f"{path}: {error.strerror}", param="output") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
