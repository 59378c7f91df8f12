"""A data set without what harms: which rows stay, and a manifest of what was dropped and why.

Owns the decision and the files. Rows that stay are written byte for byte as they were. Invariants:
output and manifest appear by a rename, the manifest last; the same files and settings give the same
bytes; nothing is written in a dry run.
"""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from firefront.core.errors import RequestError, StorageFullError
from firefront.tuning.findings import KINDS, Action, Finding
from firefront.tuning.inspection import Inspection
from firefront.tuning.rows import open_rows, read_lines

FORMAT = 1
MAX_LISTED_LABELS = 200


@dataclass(frozen=True)
class Decision:
    """`dropped`: for each line that goes the finding that decides; `flagged`: what else was found,
    of lines that stay."""

    dropped: dict[int, Finding]
    flagged: list[Finding]


def decide(inspection: Inspection, actions: Mapping[str, Action] | None = None) -> Decision:
    """Which lines go. `actions`: what to do about a kind, where it is not what KINDS says."""
    chosen = {kind: action for kind, (action, _) in KINDS.items()} | dict(actions or {})
    if unknown := chosen.keys() - KINDS.keys():
        raise RequestError(f"{min(unknown)}: no kind of finding; there are {', '.join(KINDS)}")
    order = {kind: i for i, kind in enumerate(KINDS)}
    chosen["invalid"] = "drop"  # nobody could learn from it
    dropped: dict[int, Finding] = {}
    by_rank = sorted(inspection.findings, key=lambda f: (order[f.kind], f.line))
    for finding in by_rank:
        is_alone = finding.kind == "near_duplicate" and finding.other in dropped
        if chosen[finding.kind] == "drop" and not is_alone:
            dropped.setdefault(finding.line, finding)
    flagged = [f for f in inspection.findings if f.line not in dropped]
    return Decision(dropped, flagged)


def manifest(
    inspection: Inspection, decision: Decision, settings: Mapping[str, Any], out: Any = None
) -> dict[str, Any]:
    """The record of one cleansing, without times and places: JSON data."""
    found = Counter(finding.kind for finding in inspection.findings)
    found["invalid"] = inspection.problems.total
    gone = Counter(finding.kind for finding in decision.dropped.values())
    gone["invalid"] = inspection.problems.total
    num_kept = inspection.source.num_rows - gone.total()
    labels = inspection.labels.most_common(MAX_LISTED_LABELS)
    return {
        "format": FORMAT,
        "input": asdict(inspection.source),
        "validation": inspection.validation and asdict(inspection.validation),
        "output": out,
        "settings": dict(settings),
        "rows": {
            "read": inspection.source.num_rows,
            "kept": num_kept,
            "dropped": gone.total(),
            "flagged": len({finding.line for finding in decision.flagged}),
        },
        "found": {kind: found[kind] for kind in KINDS if found[kind]},
        "dropped_by": {kind: gone[kind] for kind in KINDS if gone[kind]},
        "repeated_inputs": inspection.num_repeated,
        "leaked": dict(inspection.leaked) if inspection.validation else None,
        "answers": inspection.answers,
        "labels": dict(labels),
        "warnings": inspection.warnings,
        "invalid_by": dict(inspection.problems.counts.most_common(MAX_LISTED_LABELS)),
        "dropped": [_listed(f) for _, f in sorted(decision.dropped.items())],
        "flagged": [_listed(f) for f in decision.flagged],
    }


def cleanse(
    path: Path,
    out: Path,
    inspection: Inspection,
    decision: Decision,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what stays of `path` to `out` and the manifest beside it; the manifest.

    RequestError if `path` is no longer what was inspected, or nothing would be left.
    """
    digest, num_bytes, num_rows = hashlib.sha256(), 0, 0
    bad = {problem.line for problem in inspection.problems.kept}
    known = {fact.line for fact in inspection.facts}
    with open_rows(path) as stream, replacing(out) as written:
        if hashlib.file_digest(stream, "sha256").hexdigest() != inspection.source.sha256:
            raise RequestError(f"{path.name}: was changed while it was read; begin anew")
        stream.seek(0)
        for number, line in read_lines(stream, path.name):
            if line is None or number in decision.dropped or number in bad or number not in known:
                continue
            data = line.strip() + b"\n"
            written.write(data)
            digest.update(data)
            num_bytes += len(data)
            num_rows += 1
        if num_rows == 0:
            raise RequestError(f"{path.name}: every row would be dropped; see check")
    output = {"name": out.name, "sha256": digest.hexdigest(), "num_bytes": num_bytes,
              "num_rows": num_rows}  # fmt: skip
    record = manifest(inspection, decision, settings, output)
    with replacing(manifest_path(out)) as file:
        file.write(manifest_bytes(record))
    return record


def manifest_path(out: Path) -> Path:
    """Where the manifest of a data set lies."""
    return out.with_name(out.name + ".manifest.json")


def manifest_bytes(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends well, else leaves nothing."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise StorageFullError(f"{path}: {error.strerror}", param="output") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _listed(finding: Finding) -> dict[str, Any]:
    listed: dict[str, Any] = {"line": finding.line, "kind": finding.kind}
    if finding.why:
        listed["why"] = finding.why
    if finding.other is not None:
        listed["other"] = finding.other
    return listed


def finding_text(finding: Finding) -> str:
    """One line for people."""
    where = "validation line" if finding.kind in ("leak", "near_leak") else "line"
    other = f" (see {where} {finding.other})" if finding.other is not None else ""
    said = finding.why or KINDS[finding.kind][1]
    text = f"line {finding.line}: {finding.kind}: {said}{other}"
    return msgspec.json.encode(text).decode()[1:-1] if not text.isprintable() else text
