"""What an evaluation that is a job is asked to do: models, files, kind, and the gate's limits.

Owns ranges and what a new job needs to be accepted; knows no HTTP, and asks no model. Invariant: a
job in the store has a request that was checked.
"""

import math
from collections.abc import Collection, Iterable

import msgspec

from firefront.core.errors import NotFoundError, RequestError
from firefront.store.job_log import Entry
from firefront.store.jobs import StoredJob
from firefront.store.store import Store
from firefront.tuning.evaluation.evaluate import BASE
from firefront.tuning.evaluation.gate import MAX_PERPLEXITY_RISE, MAX_SCORE_LOSS
from firefront.tuning.evaluation.record import Kind
from firefront.tuning.jobs.request import MAX_SEED, MAX_UNFINISHED

KIND = "evaluation"
PREFIX = "eval-"
MAX_FORGET = 4
MAX_RUBRIC_CHARS = 16_384
_MOST_RISE = 100.0  # times the base's perplexity


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A job's `request`, as the store keeps it.

    `model`: a base that is served, or BASE:NAME of an adapter. `against`: None, BASE (the model
    without its adapter), or another such name. `file`: the id of the rows or the text, `forget`:
    of those that it must not be worse on than the other. The rest as in `EvalSpec`.
    """

    model: str
    file: str
    against: str | None = None
    kind: Kind | None = None
    forget: list[str] = []
    limit: int | None = None
    seed: int = 0
    is_constrained: bool = False
    judge: str | None = None
    rubric: str = ""
    max_perplexity_rise: float = MAX_PERPLEXITY_RISE
    max_score_loss: float = MAX_SCORE_LOSS


def checked(request: EvaluationRequest) -> EvaluationRequest:
    """The request, or RequestError that names the field at fault."""
    for param, problem in _problems(request):
        raise RequestError(f"{param}: {problem}", param=param)
    return request


def _problems(request: EvaluationRequest) -> Iterable[tuple[str, str]]:
    if request.against == request.model:
        yield "against", "is the same model; name another"
    if request.limit is not None and request.limit < 1:
        yield "limit", "must be at least 1"
    if not 0 <= request.seed <= MAX_SEED:
        yield "seed", f"must be 0 to {MAX_SEED}"
    if len(request.forget) > MAX_FORGET:
        yield "forget", f"may name at most {MAX_FORGET} files"
    if request.forget and request.against is None:
        yield "forget", "needs a model to compare with: say against"
    if request.kind == "graded" and request.judge is None:
        yield "judge", "graded rows need a model that grades them"
    for param in ("judge", "rubric"):
        if getattr(request, param) and request.kind != "graded":
            yield param, "is for the kind graded only"
    if len(request.rubric) > MAX_RUBRIC_CHARS:
        yield "rubric", f"may have at most {MAX_RUBRIC_CHARS} characters"
    if request.is_constrained and request.kind == "graded":
        yield "is_constrained", "graded answers have no form to hold them to; leave it out"
    for param, most in (("max_perplexity_rise", _MOST_RISE), ("max_score_loss", 1.0)):
        value = getattr(request, param)
        if not (math.isfinite(value) and 0 <= value <= most):
            yield param, f"must be 0 to {most:g}"


def create_evaluation(
    store: Store,
    account_id: str,
    base: str,
    request: EvaluationRequest,
    metadata: dict[str, str],
) -> StoredJob:
    """Put a checked request into the queue. `base`: the base of the request's model. RequestError
    if a file or an adapter is not there."""
    for param, model in (("model", request.model), ("against", request.against)):
        _check_model(store, account_id, base, model, param)
    if request.against == BASE and request.model == base:
        raise RequestError(
            "against: base needs a model with an adapter; name another model", param="against"
        )
    if request.against == base and request.model == base:
        raise RequestError("against: is the same model; name another", param="against")
    _check_file(store, account_id, request.file, "file")
    for place, file_id in enumerate(request.forget):
        _check_file(store, account_id, file_id, f"forget[{place}]")
    return store.jobs.create(
        account_id,
        kind=KIND,
        prefix=PREFIX,
        model=base,
        status="queued",
        request=msgspec.to_builtins(request),
        metadata=metadata,
        first=[Entry(message="Created evaluation")],
        max_unfinished=MAX_UNFINISHED,
    )


def request_of(job: StoredJob) -> EvaluationRequest:
    """What a job of this kind was asked to do."""
    assert job.kind == KIND
    return msgspec.convert(job.request, EvaluationRequest)


def base_of(model: str, bases: Collection[str]) -> tuple[str, str | None] | None:
    """The base and the adapter's name that BASE or BASE:NAME means; None if it is no base's."""
    if model in bases:
        return model, None
    base, colon, name = model.rpartition(":")
    return (base, name) if colon and base in bases else None


def _check_model(
    store: Store, account_id: str, base: str, model: str | None, param: str
) -> None:
    """Whether the store has the adapter, if it is one of the base's."""
    if model is None or (param == "against" and model == BASE):
        return
    found = base_of(model, [base])
    if found is None:
        assert param == "against", f"{model} is not of {base}"
        return  # another base's: those that are served are known once it is opened
    _, name = found
    if name is not None:
        try:
            store.adapters.find(account_id, base, name)
        except NotFoundError as error:
            raise NotFoundError(f"{param}: {error.message}", param=param) from None


def _check_file(store: Store, account_id: str, file_id: str, param: str) -> None:
    try:
        file = store.files.get(account_id, file_id)
    except NotFoundError:
        raise _unusable(param, f"no file {file_id[:100]!r}; upload it to /v1/files") from None
    if file.num_bytes == 0:
        raise _unusable(param, f"{file.filename} is empty")


def _unusable(param: str, problem: str) -> RequestError:
    code = f"invalid_{param.partition('[')[0]}"
    return RequestError(f"{param}: {problem}", param=param, code=code)
