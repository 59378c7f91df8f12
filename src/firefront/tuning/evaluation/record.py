"""What an evaluation found: one JSON document, every row in it.

Owns the format. Invariant: a record on disk is whole; it appears by one rename.
"""

from pathlib import Path
from typing import Literal

import msgspec

from firefront.core.errors import RequestError
from firefront.tuning.evaluation.compare import Comparison
from firefront.tuning.evaluation.fields import FieldReport
from firefront.tuning.evaluation.gate import Decision, Probe
from firefront.tuning.evaluation.labels import LabelReport
from firefront.tuning.line_files import replacing

Kind = Literal[
    "classification", "extraction", "exact", "tool_calls", "text", "graded", "perplexity", "needle"
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One model's answer to one row. `score`: more is better; None: it could not be graded.
    `error`: why there is no answer."""

    answer: str
    score: float | None
    num_prompt: int = 0
    num_output: int = 0
    latency_s: float = 0.0
    is_cut: bool = False
    error: str | None = None


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What the answers took. Latencies are with `streams` questions at once (None: as many as the
    engine runs). `dollars`: by the prices that the server or the deployment names, if any."""

    wall_s: float
    num_prompt: int
    num_output: int
    tokens_per_row: float
    latency_p50_s: float
    latency_p95_s: float
    streams: int | None
    num_cut: int
    num_failed: int
    dollars: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A model's scores over all rows: by name, and in detail where the kind has details."""

    metrics: dict[str, float]
    labels: LabelReport | None = None
    fields: FieldReport | None = None


class ModelResult(msgspec.Struct, frozen=True, kw_only=True):
    """One model; `outcomes` are those of the record's rows, in their order."""

    name: str
    report: Report
    costs: Costs
    outcomes: list[Outcome]


class RowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the data: its line, the end of what was asked, and the right answer."""

    line: int
    question: str
    reference: str


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The file: `num_rows` in it, of which those of the record were taken with `seed`."""

    name: str
    sha256: str
    num_rows: int
    seed: int


class EvalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`main` names the metric that rows' scores average to. `against`, `comparison`, `probes` and
    `decision` are there if there was a second model."""

    version: int = 1
    created: str  # ISO 8601, UTC
    data: DataFacts
    kind: Kind
    main: str
    is_constrained: bool
    rows: list[RowFacts]
    model: ModelResult
    against: ModelResult | None = None
    comparison: Comparison | None = None
    probes: list[Probe] = []
    decision: Decision | None = None


def write_record(record: EvalRecord, path: Path) -> None:
    """StorageFullError if the file cannot be written."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(record), indent=1))


def read_record(path: Path) -> EvalRecord:
    """RequestError for a file that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=EvalRecord)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"{path}: is no record of an evaluation: {error}") from None
