"""What labelling has done so far, on disk, so that it goes on where it stopped.

Knows lines and JSON, nothing of models. Invariants: an entry is there whole or not at all, what a
crash cut off is dropped; a journal belongs to one input and one set of settings; one process at a
time writes it.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from firefront.core.errors import RequestError, StorageFullError

Entry = dict[str, Any]


class LabelJournal:
    """Opens or begins the journal at `path`; `entries` are those that are there, by line."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self.entries: dict[int, Entry] = {}
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise StorageFullError(f"{path}: {error.strerror}", param="out") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(head)
        except BlockingIOError:
            self._file.close()
            raise RequestError(f"{path}: another process labels into it", param="out") from None
        except BaseException:
            self._file.close()
            raise

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep these; they are on disk when this returns."""
        new = list(entries)
        self._append(new)
        self.entries |= {entry["line"]: entry for entry in new}

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """When it is not needed any more."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _read(self, head: Mapping[str, Any]) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._append([dict(head)])
            return
        try:
            found = [json.loads(line) for line in lines]
            self.entries = {entry["line"]: entry for entry in found[1:]}
        except (ValueError, KeyError, TypeError):
            raise RequestError(f"{self.path}: is damaged; remove it to begin anew") from None
        if found[0] != json.loads(json.dumps(head)):
            raise RequestError(
                f"{self.path}: belongs to another input, teacher or settings; go on with those, or "
                "remove it to begin anew",
                param="out",
            )

    def _append(self, entries: list[Entry]) -> None:
        data = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageFullError(f"{self.path}: {error.strerror}", param="out") from None
