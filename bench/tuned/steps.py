"""Steps that train and judge: banking77 beside PEFT, over rows, beside a large model; others.

Each takes the place and gives its figures. Rates and ranks are those of the PEFT run, or the
product's own where that says so.
"""

import json
import subprocess
import sys
from pathlib import Path

from bench.tuned.place import MODEL, Json, Place

LARGE = "qwen-coder-1.5b"
LARGE_ROWS = 500  # a prompt with 77 labels takes a model of this size seconds a row
CURVE = (100, 300, 1000)
RATE, RANK = "1e-3", "16"


def banking(place: Place) -> Json:
    """One epoch by both trainers, in turns, from the same tokens."""
    out = place.work / "banking.training.json"
    subprocess.run(
        [
            sys.executable, "-m", "bench.tuning", str(place.datasets / "banking77"),
            f"--rows={place.rows}", f"--rate={RATE}", f"--dtypes={_dtype()}",
            f"--work={place.work / 'banking'}", f"--json={out}",
        ],
        check=True,
    )  # fmt: skip
    found: Json = json.loads(out.read_text())
    sides = {side: runs[0] for side, runs in found.pop("sides").items()}
    losses = {side: run.pop("losses") for side, run in sides.items()}
    return {**found, "sides": sides, "losses": losses}


def judged(place: Place) -> Json:
    """The adapters of both on all test rows, and the base; what ours has forgotten."""
    data = place.task("banking77", "test")
    adapter, peft = _adapters(place)
    ours = place.judge(
        data, "banking-ours", "--model", MODEL, "--adapter", adapter, "--against", "base",
        "--forget", place.text_to_remember(),
    )  # fmt: skip
    theirs = place.judge(
        data, "banking-peft", "--model", MODEL, "--adapter", peft,
        "--against", place.work / "banking-ours.record.json",
    )  # fmt: skip
    return {"ours": ours, "peft_against_ours": theirs}


def curve(place: Place) -> Json:
    """Accuracy over the number of rows; epochs as the product chooses them."""
    found: Json = {}
    for num in CURVE:
        rows = place.some("banking77", num)
        made = place.tune(rows, "--lr", RATE, "--rank", RANK, "--suffix", f"b{num}")
        score = place.judge(
            place.task("banking77", "test"), f"curve-{num}",
            "--model", MODEL, "--adapter", made["model"],
        )  # fmt: skip
        found[str(num)] = {**made, **score["model"]}
    return found


def large(place: Place) -> Json:
    """The tuned model against a large one that sees all labels and is held to them."""
    limit = min(LARGE_ROWS, place.test_rows or LARGE_ROWS)
    record = place.work / "large.record.json"
    place.firefront("pull", "--catalog", "bench/models.toml", LARGE)
    place.firefront(
        "eval", place.task("banking77-listed", "test"), "--model", LARGE, "--constrain",
        "--limit", str(limit), "--save", record,
    )  # fmt: skip
    ours = place.work / "large-ours.record.json"
    adapter, _ = _adapters(place)
    place.firefront(
        "eval", place.task("banking77", "test"), "--model", MODEL, "--adapter", adapter,
        "--limit", str(limit), "--against", record, "--save", ours,
    )  # fmt: skip
    from bench.tuned.place import figures

    return figures(json.loads(ours.read_text()))


def snips(place: Place) -> Json:
    return _tuned(place, "snips", 350)


def sroie(place: Place) -> Json:
    return _tuned(place, "sroie", 250)


def _tuned(place: Place, name: str, num: int) -> Json:
    """A task before and after one epoch over few rows, and what is forgotten."""
    made = place.tune(
        place.some(name, num),
        "--lr", RATE, "--rank", RANK, "--epochs", "1", "--suffix", name,
    )  # fmt: skip
    judged = place.judge(
        place.task(name, "test"), name, "--model", MODEL, "--adapter", made["model"],
        "--against", "base", "--forget", place.text_to_remember(),
    )  # fmt: skip
    return {**made, "num_train": num, **judged}


def parity(place: Place) -> Json:
    """How far engine and trainer are apart on the tokens of rows, as served and in float32."""
    adapter, peft = _adapters(place)
    found: Json = {}
    for name, folder in (("ours", adapter), ("peft", peft)):
        for activations in ("int8", "f32"):
            done = subprocess.run(
                [
                    sys.executable, "-m", "bench.tuned.parity", MODEL, str(folder),
                    str(place.some("banking77", 100)), activations,
                ],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            found[f"{name}-{activations}"] = json.loads(done.stdout)
    return found


def _adapters(place: Place) -> tuple[Path, Path]:
    """Ours and PEFT's, of `banking`."""
    folder = place.work / "banking"
    return folder / "ours" / "adapter", folder / f"peft-{_dtype()}"


def _dtype() -> str:
    """In which both train: the faster one here, for PEFT too (`bench.tuning --dtypes` has both)."""
    from firefront.tuning.train import training_dtype

    return str(training_dtype()).removeprefix("torch.")
