"""DPO's reference: the log-probabilities of rows without the adapter, computed once for each row,
however many trainings of the base learn from it.

Owns the file. Invariant: the file appears whole, by a rename.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from firefront.tuning.batches import Group, add_to_digest
from firefront.tuning.line_files import replacing

Compute = Callable[[list[Group]], NDArray[np.float32]]  # (rows, examples)


class References:
    """In a file of JSON, whose floats come back bit for bit. `base`: a digest of the model that
    computes them, and how."""

    def __init__(self, path: Path, base: str) -> None:
        self._path = path
        self._base = base.encode()

    def of(self, groups: Sequence[Group], compute: Compute) -> NDArray[np.float32]:
        """Those of each row's examples, (rows, examples)."""
        keys = [self._key(group) for group in groups]
        known = self._read()
        missing = {key: group for key, group in zip(keys, groups, strict=True) if key not in known}
        if missing:
            found = compute(list(missing.values()))
            known |= dict(zip(missing, found.tolist(), strict=True))
            if np.isfinite(found).all():
                with replacing(self._path) as file:
                    file.write(msgspec.json.encode(known))
        return np.array([known[key] for key in keys], np.float32)

    def _read(self) -> dict[str, list[float]]:
        if not self._path.exists():
            return {}
        return msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[float]])

    def _key(self, group: Group) -> str:
        digest = hashlib.sha256(self._base)
        add_to_digest(digest, group)
        return digest.hexdigest()
