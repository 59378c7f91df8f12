"""What a tuning job is asked to do: method, hyperparameters, files, and the name that comes of it.

Owns ranges, names and what a new job needs to be accepted; knows no HTTP and no training.
Invariant: a job in the store has a request that was checked.
"""

import re
import secrets
from typing import Literal

import msgspec

from firefront.core.errors import FirefrontError, NotFoundError, RequestError
from firefront.store.job_log import Entry
from firefront.store.jobs import Lease, StoredJob
from firefront.store.store import Store
from firefront.tuning.settings import Schedule

KIND = "fine_tuning"
PURPOSE = "fine-tune"
MAX_SUFFIX_CHARS = 64
MAX_UNFINISHED = 100  # jobs of one account
MAX_SEED = 2**31 - 1
_NAME_CHARS = 8  # of the job's id in the model's name
_UNFIT = re.compile(r"[^A-Za-z0-9_]+")
Auto = Literal["auto"]
Method = Literal["supervised", "dpo"]


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train; `auto` is decided from the rows. `learning_rate_multiplier` is of the rate that
    would be decided, `learning_rate` the rate itself; at most one of them is a number. `beta` is
    for dpo."""

    n_epochs: Auto | int = "auto"
    batch_size: Auto | int = "auto"
    learning_rate_multiplier: Auto | float = "auto"
    learning_rate: Auto | float = "auto"
    lora_rank: Auto | int = "auto"
    use_rslora: bool = False
    lr_scheduler_type: Schedule = "cosine"
    beta: Auto | float = "auto"


_RANGES: dict[str, tuple[float, float]] = {
    "n_epochs": (1, 50),
    "batch_size": (1, 256),
    "learning_rate_multiplier": (0.01, 100),
    "learning_rate": (1e-7, 0.1),
    "lora_rank": (1, 256),
    "beta": (0.001, 10),
}


class TuningRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A job's `request`, as the store keeps it."""

    training_file: str
    validation_file: str | None = None
    method: Method = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int = 0
    suffix: str | None = None


def checked(request: TuningRequest, where: str = "hyperparameters") -> TuningRequest:
    """The request, or RequestError; `where` is what the client calls its hyperparameters."""
    given = request.hyperparameters
    for name, (low, high) in _RANGES.items():
        value = getattr(given, name)
        if value != "auto" and not low <= value <= high:
            param = f"{where}.{name}"
            raise RequestError(f"{param}: must be auto, or {low:g} to {high:g}", param=param)
    if "auto" not in (given.learning_rate, given.learning_rate_multiplier):
        param = f"{where}.learning_rate"
        raise RequestError(f"{param}: not together with learning_rate_multiplier", param=param)
    if given.beta != "auto" and request.method != "dpo":
        raise RequestError(f"{where}.beta: is for the method dpo only", param=f"{where}.beta")
    if not 0 <= request.seed <= MAX_SEED:
        raise RequestError(f"seed: must be 0 to {MAX_SEED}", param="seed")
    if request.suffix is not None:
        if len(request.suffix) > MAX_SUFFIX_CHARS:
            raise RequestError(
                f"suffix: may have at most {MAX_SUFFIX_CHARS} characters", param="suffix"
            )
        if not _slug(request.suffix):
            raise RequestError("suffix: needs a letter or a digit", param="suffix")
    return request


def create_job(
    store: Store, account_id: str, model: str, request: TuningRequest, metadata: dict[str, str]
) -> StoredJob:
    """Put a checked request into the queue. RequestError if a file is not there or not for this."""
    for param in ("training_file", "validation_file"):
        if (file_id := getattr(request, param)) is not None:
            _check_file(store, account_id, file_id, param)
    return store.jobs.create(
        account_id,
        kind=KIND,
        prefix="ftjob-",
        model=model,
        status="validating_files",
        request=msgspec.to_builtins(request),
        metadata=metadata,
        first=[
            Entry(message="Created fine-tuning job"),
            Entry(message=f"Validating training file: {request.training_file}"),
        ],
        max_unfinished=MAX_UNFINISHED,
    )


def request_of(job: StoredJob) -> TuningRequest:
    """What a job of this kind was asked to do."""
    assert job.kind == KIND
    return msgspec.convert(job.request, TuningRequest)


def random_seed() -> int:
    return secrets.randbelow(MAX_SEED + 1)


def adapter_name(job_id: str, suffix: str | None) -> str:
    """What the tuned model is called after its base: ft-SUFFIX-ID."""
    number = job_id.rpartition("-")[2][:_NAME_CHARS]
    return "-".join(part for part in ("ft", _slug(suffix or ""), number) if part)


def model_name(job: StoredJob) -> str:
    """What the tuned model of a job is asked for by."""
    return f"{job.model}:{adapter_name(job.id, request_of(job).suffix)}"


def _slug(text: str) -> str:
    """`text` as it may stand in a model's name and in a URL."""
    return _UNFIT.sub("-", text).strip("-")


def _check_file(store: Store, account_id: str, file_id: str, param: str) -> None:
    try:
        file = store.files.get(account_id, file_id)
    except NotFoundError:
        raise _unusable(param, f"no file {file_id[:100]!r}; upload it to /v1/files") from None
    if file.purpose != PURPOSE:
        raise _unusable(param, f"was uploaded for {file.purpose}; upload it for {PURPOSE}")
    if file.num_bytes == 0:
        raise _unusable(param, f"{file.filename} is empty")


def _unusable(param: str, problem: str) -> RequestError:
    return RequestError(f"{param}: {problem}", param=param, code=f"invalid_{param}")


def fail(store: Store, lease: Lease, error: FirefrontError) -> None:
    """End a job that is worked on as failed, its `error` as OpenAI shapes it. LeaseLostError."""
    said = [Entry(level="error", message=error.message)]
    shown = {"code": error.code or "job_failed", "message": error.message, "param": error.param}
    store.jobs.move(lease, "failed", events=said, error=shown)
