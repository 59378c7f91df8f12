"""The bodies of pipelines over HTTP, and the definition that they mean.

Ranges are `tuning/pipelines/definition.py`'s business. Invariant: what is stored as a definition
can be run.
"""

from typing import Annotated, Literal

import msgspec

from firefront.core.errors import RequestError
from firefront.gateway import schemas
from firefront.gateway.datasets import DatasetRequest, check_dataset
from firefront.gateway.fields import doc
from firefront.tuning.pipelines.definition import (
    Definition,
    PipelineCanary,
    PipelineData,
    PipelineEvaluation,
    PipelineTuning,
    checked,
)


class CreatePipelineRequest(msgspec.Struct, kw_only=True):
    """From data to a model that serves, again and again."""

    model: Annotated[str, doc("a base model that this server serves")]
    name: Annotated[str, doc("the pipeline's model is asked for as MODEL:NAME")]
    data: PipelineData
    tuning: PipelineTuning = PipelineTuning()
    evaluation: PipelineEvaluation = PipelineEvaluation()
    canary: PipelineCanary = PipelineCanary()
    metadata: Annotated[dict[str, str] | None, doc("up to 16 pairs of text")] = None


class UpdatePipelineRequest(msgspec.Struct, kw_only=True):
    """Another definition, for the runs to come; what is left out stays."""

    data: PipelineData | None = None
    tuning: PipelineTuning | None = None
    evaluation: PipelineEvaluation | None = None
    canary: PipelineCanary | None = None


class CreateRunRequest(msgspec.Struct, kw_only=True):
    """A run of a pipeline."""

    replay: Annotated[
        str | None, doc("a run to make again: same rows, same seed; nothing is promoted")
    ] = None


class PromoteRequest(msgspec.Struct, kw_only=True):
    """Whose version is to serve."""

    run: Annotated[str, doc("a run that has ended, held back and rolled back ones too")]


class RollbackRequest(msgspec.Struct, kw_only=True):
    """Which version is to serve."""

    version: Annotated[
        int | None, doc("its number; 0: the base; if absent, the one before")
    ] = None


def definition_of(parsed: CreatePipelineRequest) -> Definition:
    """Checked; RequestError names the field at fault."""
    return _checked(
        Definition(
            data=parsed.data,
            tuning=parsed.tuning,
            evaluation=parsed.evaluation,
            canary=parsed.canary,
        )
    )


def updated(definition: Definition, parsed: UpdatePipelineRequest) -> Definition:
    """With what is given in place of what was. RequestError names the field at fault."""
    given = {
        name: value
        for name in ("data", "tuning", "evaluation", "canary")
        if (value := getattr(parsed, name)) is not None
    }
    return _checked(msgspec.structs.replace(definition, **given))


def traffic_of(definition: Definition) -> DatasetRequest:
    """Which stored completions make its rows, of the kind that its tuning learns from; without
    `model`, those of the pipeline itself. RequestError names the filter at fault."""
    kind: Literal["supervised", "preference"] = (
        "preference" if definition.tuning.method == "dpo" else "supervised"
    )
    given = definition.data.traffic or {}
    wanted, ignored = schemas.parse({"method": kind, **given}, DatasetRequest)
    if ignored:
        raise RequestError(f"{ignored[0]}: unknown filter", param=ignored[0])
    if wanted.method != kind:
        raise RequestError(
            f"method: tuning.method {definition.tuning.method} learns from {kind}", param="method"
        )
    check_dataset(wanted)
    return wanted


def _checked(definition: Definition) -> Definition:
    checked(definition)
    if definition.data.traffic is not None:
        try:
            traffic_of(definition)
        except RequestError as error:
            where = "data.traffic"
            raise RequestError(
                f"{where}.{error.message}", param=f"{where}.{error.param}"
            ) from None
    return definition
