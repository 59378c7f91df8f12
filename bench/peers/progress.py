"""What was measured so far, kept in a file line by line: a bench that was stopped goes on there.

The first line says what it is about (model, our code, threads); of anything else it is set aside.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from bench.peers.figures import Measurement

MEASURED = ("core", "ops", "plan", "models", "weights", "text", "backends", "engine")
CODE = (
    *(f"src/firefront/{package}/**/*.py" for package in MEASURED), "csrc/**/*.[ch]*",
    "bench/peers/children/workload.py", "bench/peers/children/*_child.py",
)  # fmt: skip


class Progress:
    """Measurements, and by engine: what it said at its start, what failed, who is absent, KL."""

    def __init__(self, path: Path | None = None, about: dict[str, Any] | None = None) -> None:
        self.measurements: list[Measurement] = []
        self.info: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, dict[str, str]] = {}
        self.absent: dict[str, str] = {}
        self.divergence: dict[str, dict[str, Any]] = {}
        self._path = path
        if path is None:
            return
        first = msgspec.json.encode(about or {})
        lines = path.read_bytes().splitlines() if path.is_file() else []
        if lines and lines[0] == first:
            whole = [line for line in lines[1:] if self._read(line)]
            path.write_bytes(b"".join(line + b"\n" for line in (first, *whole)))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if lines:
            path.replace(path.with_suffix(".old"))
        path.write_bytes(first + b"\n")

    @property
    def rounds(self) -> int:
        return max((m.round for m in self.measurements), default=0)

    def measured(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        self._write({"measurement": measurement})

    def started(self, engine: str, info: dict[str, Any]) -> None:
        """It runs, so it is no longer absent."""
        self.info[engine] = info
        self.absent.pop(engine, None)
        self._write({"started": engine, "info": info})

    def leave_out(self, engine: str, figure: str, why: str) -> None:
        self.failed.setdefault(engine, {})[figure] = why
        self._write({"failed": engine, "figure": figure, "why": why})

    def missing(self, engine: str, why: str) -> None:
        self.absent[engine] = why
        self._write({"absent": engine, "why": why})

    def diverged(self, engine: str, found: dict[str, Any]) -> None:
        self.divergence[engine] = found
        self._write({"diverged": engine, "found": found})

    def _write(self, entry: dict[str, Any]) -> None:
        if self._path:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")

    def _read(self, line: bytes) -> bool:
        """False for the line that it was stopped in."""
        try:
            entry = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return False
        match entry:
            case {"measurement": values}:
                self.measurements.append(msgspec.convert(values, Measurement))
            case {"started": engine, "info": info}:
                self.info[engine] = info
                self.absent.pop(engine, None)
            case {"failed": engine, "figure": figure, "why": why}:
                self.failed.setdefault(engine, {})[figure] = why
            case {"absent": engine, "why": why}:
                self.absent[engine] = why
            case {"diverged": engine, "found": found}:
                self.divergence[engine] = found
        return True


def digest_of_code(root: Path) -> str:
    """Changes with any file of ours that is measured or measures."""
    digest = hashlib.sha256()
    for pattern in CODE:
        for path in sorted(root.glob(pattern)):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
