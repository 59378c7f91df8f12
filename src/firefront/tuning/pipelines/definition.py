"""What a pipeline is told: where rows come from, how to tune, what is good enough, how to try it.

Owns ranges and defaults; knows no HTTP and no store. Invariant: a definition that is stored was
checked.
"""

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from firefront.core.errors import RequestError
from firefront.tuning.evaluation.evaluate import BASE
from firefront.tuning.evaluation.gate import MAX_PERPLEXITY_RISE, MAX_SCORE_LOSS
from firefront.tuning.evaluation.record import Kind
from firefront.tuning.jobs.evaluation import EvaluationRequest
from firefront.tuning.jobs.evaluation import checked as checked_evaluation
from firefront.tuning.jobs.request import Hyperparameters, Method, TuningRequest
from firefront.tuning.jobs.request import checked as checked_tuning

MAX_CANARY_S = 30 * 86_400


def _says(text: str) -> Meta:
    return Meta(description=text)


class PipelineData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the rows come from: one of the two."""

    file: Annotated[str | None, _says("a file of purpose fine-tune")] = None
    traffic: Annotated[
        dict[str, Any] | None,
        _says(
            "filters of stored completions, as /v1/chat/completions:dataset takes them; without "
            "model, of the pipeline's own"
        ),
    ] = None


class PipelineTuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an adapter is made of them."""

    method: Method = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    validation_file: Annotated[
        str | None, _says("rows to judge training by; some are held out otherwise")
    ] = None
    seed: Annotated[int | None, _says("of every run; drawn for each if absent")] = None


class PipelineEvaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the adapter is judged by, against the version that serves, or the base."""

    file: Annotated[
        str | None, _says("rows with right answers; if absent, those that were held out")
    ] = None
    kind: Annotated[Kind | None, _says("found from the rows if absent")] = None
    forget: Annotated[
        list[str], _says("files, texts or rows, that it must not be worse on")
    ] = []
    limit: Annotated[int | None, _says("so many rows at most")] = None
    is_constrained: Annotated[bool, _says("hold answers to the labels, schema or calls")] = False
    max_perplexity_rise: Annotated[
        float, _says("of the texts of forget, as a share")
    ] = MAX_PERPLEXITY_RISE
    max_score_loss: Annotated[float, _says("of the rows of forget, from 0 to 1")] = MAX_SCORE_LOSS


class PipelineCanary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the new version is tried on real requests before it takes over."""

    share: Annotated[float, _says("of the requests; 0: take over at once")] = 0.05
    min_requests: Annotated[int, _says("that it must have answered")] = 100
    max_s: Annotated[int, _says("seconds; then it is decided by what there is")] = 86_400


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pipeline's."""

    data: PipelineData
    tuning: PipelineTuning = PipelineTuning()
    evaluation: PipelineEvaluation = PipelineEvaluation()
    canary: PipelineCanary = PipelineCanary()


def checked(definition: Definition) -> Definition:
    """The definition, or RequestError naming the field at fault."""
    data, judged, canary = definition.data, definition.evaluation, definition.canary
    if (data.file is None) == (data.traffic is None):
        raise RequestError("data: say either file or traffic", param="data")
    tuning_request(definition, "", 0)
    if definition.tuning.method == "dpo" and judged.file is None:
        raise RequestError(
            "evaluation.file: is needed for dpo, whose rows have no right answers",
            param="evaluation.file",
        )
    evaluation_request(definition, model="", against=BASE, file="")
    _in_range("canary.share", canary.share, 0, 0.5)
    _in_range("canary.min_requests", canary.min_requests, 1, 1_000_000)
    _in_range("canary.max_s", canary.max_s, 1, MAX_CANARY_S)
    return definition


def tuning_request(
    definition: Definition, file_id: str, seed: int, suffix: str | None = None
) -> TuningRequest:
    """The tuning job of a run. RequestError for what it may not be."""
    tuning = definition.tuning
    return checked_tuning(
        TuningRequest(
            training_file=file_id,
            validation_file=tuning.validation_file,
            method=tuning.method,
            hyperparameters=tuning.hyperparameters,
            seed=seed if tuning.seed is None else tuning.seed,
            suffix=suffix,
        ),
        "tuning.hyperparameters",
    )


def evaluation_request(
    definition: Definition, *, model: str, against: str, file: str
) -> EvaluationRequest:
    """The evaluation of a run. RequestError for what it may not be."""
    judged = definition.evaluation
    wanted = EvaluationRequest(
        model=model,
        against=against,
        file=file,
        kind=judged.kind,
        forget=judged.forget,
        limit=judged.limit,
        is_constrained=judged.is_constrained,
        max_perplexity_rise=judged.max_perplexity_rise,
        max_score_loss=judged.max_score_loss,
    )
    try:
        return checked_evaluation(wanted)
    except RequestError as error:
        where = "evaluation"
        raise RequestError(f"{where}.{error.message}", param=f"{where}.{error.param}") from None


def _in_range(param: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise RequestError(f"{param}: must be {low:g} to {high:g}", param=param)
