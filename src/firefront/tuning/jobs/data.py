"""The rows of a job: cleansed, and some held out, unless a validation file was given.

Owns `valid.jsonl` of a job's folder and the records beside it. Invariants: `prepared.json` is
written last, what it speaks of is whole; rows keep the numbers of their lines in the training file.
"""

from pathlib import Path
from typing import Any

import msgspec

from firefront.core.errors import RequestError
from firefront.tuning import cleanse as cleansing
from firefront.tuning import split as splitting
from firefront.tuning.inspection import Inspection, inspect
from firefront.tuning.jobs.check import FileError
from firefront.tuning.jobs.reporter import Reporter
from firefront.tuning.line_files import copy_lines, write_json_file

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"  # as they were uploaded
VALID, MANIFEST, PREPARED = "valid.jsonl", "manifest.json", "prepared.json"
FEW_ROWS, SHARE_OF_FEW = 500, 0.2  # of few rows more are held out: a tenth would say nothing


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows are learned from and how many are held out (0: there is no valid.jsonl);
    `left_out`: lines of the training file that are not learned from."""

    num_train: int
    num_valid: int
    left_out: list[int]


def prepare(folder: Path, seed: int, reporter: Reporter) -> Prepared:
    """Make the files, unless they are there. FileError if nothing is left to learn from."""
    done = folder / PREPARED
    if done.exists():
        return msgspec.json.decode(done.read_bytes(), type=Prepared)
    given = folder / VALIDATION if (folder / VALIDATION).exists() else None
    inspection = inspect(folder / TRAINING, given, seed=seed)
    reporter.check()
    decision = cleansing.decide(inspection)
    manifest: dict[str, Any] = {
        "cleansing": cleansing.manifest(inspection, decision, {"seed": seed})
    }
    kept = {fact.line for fact in inspection.facts} - decision.dropped.keys()
    if not kept:
        raise FileError("training_file", f"{TRAINING}: every row was dropped: {_dropped(manifest)}")
    held_out: frozenset[int] = frozenset()
    if given is not None:
        assert inspection.validation is not None
        (folder / VALID).unlink(missing_ok=True)
        (folder / VALID).hardlink_to(given)
        num_valid = inspection.validation.num_rows
    else:
        held_out = _held_out(inspection, kept, seed, reporter)
        num_valid = len(held_out)
        if held_out:
            source = inspection.source.sha256
            record = copy_lines(folder / TRAINING, source, {folder / VALID: held_out})
            manifest["held_out"] = record[folder / VALID] | {"lines": sorted(held_out)}
    prepared = Prepared(
        num_train=len(kept - held_out),
        num_valid=num_valid,
        left_out=sorted(held_out | decision.dropped.keys()),
    )
    write_json_file(folder / MANIFEST, manifest)
    write_json_file(done, msgspec.to_builtins(prepared))
    _tell(reporter, manifest, prepared)
    return prepared


def _held_out(
    inspection: Inspection, kept: set[int], seed: int, reporter: Reporter
) -> frozenset[int]:
    """Lines to judge by; none, with a reason, where that is not possible."""
    all_lines = {fact.line for fact in inspection.facts}
    share = SHARE_OF_FEW if len(kept) < FEW_ROWS else splitting.DEFAULT_SHARE
    try:
        return splitting.split(
            inspection, without=all_lines - kept, share=share, seed=seed
        ).validation
    except RequestError as error:
        reporter.warn(f"No rows are held out, so nothing is judged: {error.message}")
        return frozenset()


def _tell(reporter: Reporter, manifest: dict[str, Any], prepared: Prepared) -> None:
    if manifest["cleansing"]["rows"]["dropped"]:
        reporter.warn(f"Cleansing dropped rows: {_dropped(manifest)}")
    for warning in manifest["cleansing"]["warnings"]:
        reporter.warn(warning)
    reporter.say(f"{prepared.num_train} rows to learn from, {prepared.num_valid} to judge by")


def _dropped(manifest: dict[str, Any]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in manifest["cleansing"]["dropped_by"].items())
