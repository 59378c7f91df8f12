"""A data set without what harms: which rows stay, and a manifest of what was dropped and why.

Owns the decision and the form of the manifest. Rows that stay are written byte for byte as they
were. Invariant: the same files and settings give the same output and the same manifest.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firefront.core.errors import RequestError
from firefront.tuning.findings import KINDS, Action, Finding
from firefront.tuning.inspection import Inspection
from firefront.tuning.line_files import copy_lines, write_manifest

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
    if chosen["invalid"] != "drop":
        raise RequestError("invalid: such lines cannot stay, nobody can read them")
    order = {kind: i for i, kind in enumerate(KINDS)}
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
    kept = {fact.line for fact in inspection.facts} - decision.dropped.keys()
    if not kept:
        raise RequestError(f"{path.name}: every row would be dropped; see check")
    output = copy_lines(path, inspection.source.sha256, {out: kept})[out]
    record = manifest(inspection, decision, settings, output)
    write_manifest(out, record)
    return record


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
    return text if text.isprintable() else json.dumps(text)[1:-1]
