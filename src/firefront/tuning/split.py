"""Rows apart for validation: chosen by label, whole groups of near duplicates at a time.

Knows an inspection, no files' contents. Invariants: no two rows of a group, so no two of the same
or nearly the same input, are on different sides; the choice depends on the rows and the seed, not
on their order in the file.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from firefront.core.errors import RequestError
from firefront.tuning.inspection import Inspection
from firefront.tuning.line_files import copy_lines, write_manifest

DEFAULT_SHARE = 0.1
MAX_VALIDATION = 1000  # rows, unless more are asked for: enough to judge by, and quick


@dataclass(frozen=True)
class Split:
    """Line numbers on each side."""

    train: frozenset[int]
    validation: frozenset[int]


def split(
    inspection: Inspection,
    *,
    without: Set[int] = frozenset(),
    share: float = DEFAULT_SHARE,
    max_rows: int = MAX_VALIDATION,
    seed: int = 0,
) -> Split:
    """Take about `share` of the rows of each label for validation, at most `max_rows` in all.

    `without`: lines that are on neither side. RequestError where one side would be empty.
    """
    if not 0 < share < 1 or max_rows < 1:
        raise RequestError("share: must be over 0 and under 1", param="share")
    groups = _groups(inspection, without)
    counts = sum((group.labels for group in groups), Counter[str]())
    if not groups:
        raise RequestError(
            f"{inspection.source.name}: has no row that can be read\n{inspection.problems.text()}",
            param="training_file",
        )
    if len(groups) < 2:
        raise RequestError(
            f"{inspection.source.name}: all {counts.total()} rows are the same or nearly so, so "
            "none can be set apart; give a validation file",
            param="validation_file",
        )
    wanted = _wanted(counts, min(share, max_rows / counts.total()))
    taken: Counter[str] = Counter()
    chosen: list[_Group] = []
    for group in sorted(groups, key=lambda group: group.key(seed)):
        if all(taken[label] + num <= wanted[label] for label, num in group.labels.items()):
            taken += group.labels
            chosen.append(group)
    if not chosen:  # every group is larger than its share
        chosen = [min(groups, key=lambda group: (len(group.lines), group.key(seed)))]
    validation = frozenset(line for group in chosen for line in group.lines)
    lines = frozenset(line for group in groups for line in group.lines)
    return Split(lines - validation, validation)


def write_split(
    path: Path,
    inspection: Inspection,
    sides: Split,
    train: Path,
    validation: Path,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write both sides and a manifest beside the first; the manifest."""
    records = copy_lines(
        path, inspection.source.sha256, {train: sides.train, validation: sides.validation}
    )
    labels = {
        name: dict(Counter(f.label for f in inspection.facts if f.line in lines).most_common())
        for name, lines in (("train", sides.train), ("validation", sides.validation))
    }
    record = {
        "format": 1,
        "input": {"name": path.name, "sha256": inspection.source.sha256},
        "settings": dict(settings),
        "train": records[train],
        "validation": records[validation],
        "labels": labels if inspection.labels else None,
        "validation_lines": sorted(sides.validation),
    }
    write_manifest(train, record)
    return record


@dataclass
class _Group:
    """Rows that stay together. `least`: the least digest of their inputs."""

    least: bytes
    lines: list[int]
    labels: Counter[str]

    def key(self, seed: int) -> bytes:
        """Its place in the order of a seed, whatever else is in the file."""
        return blake2b(self.least + str(seed).encode(), digest_size=16).digest()


def _groups(inspection: Inspection, without: Set[int]) -> list[_Group]:
    rows: dict[int, list[int]] = defaultdict(list)
    for i, (root, fact) in enumerate(zip(inspection.groups, inspection.facts, strict=True)):
        if fact.line not in without:
            rows[int(root)].append(i)
    facts, has_labels = inspection.facts, bool(inspection.labels)
    return [
        _Group(
            least=min(facts[i].asked for i in own),
            lines=[facts[i].line for i in own],
            labels=Counter(facts[i].label if has_labels else "" for i in own),
        )
        for own in rows.values()
    ]


def _wanted(counts: Counter[str], share: float) -> dict[str, int]:
    """Rows of each label, by largest remainder: their sum is the share of all, at least 1."""
    exact = {label: num * share for label, num in counts.items()}
    wanted = {label: int(num) for label, num in exact.items()}
    missing = max(1, round(counts.total() * share)) - sum(wanted.values())
    by_rest = sorted(exact, key=lambda label: (wanted[label] - exact[label], label))
    for label in by_rest[: max(0, missing)]:
        wanted[label] += 1
    return wanted
