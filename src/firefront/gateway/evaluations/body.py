"""The body that creates an evaluation, and the request that it means.

Ranges are `tuning/jobs/evaluation.py`'s business. Invariant: a request names models as they are
listed, whatever was around their names.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec

from firefront.core.errors import NotFoundError, RequestError
from firefront.gateway.fields import doc
from firefront.gateway.state import Gateway
from firefront.tuning.evaluation.record import Kind

if TYPE_CHECKING:
    from firefront.tuning.jobs.evaluation import EvaluationRequest  # heavy

_LIMITS = ("max_perplexity_rise", "max_score_loss")


class CreateEvaluationRequest(msgspec.Struct, kw_only=True):
    """An evaluation."""

    model: Annotated[str, doc("a model that /v1/models lists")]
    file: Annotated[
        str,
        doc("id of a file: chat rows (.jsonl, or of purpose fine-tune), or a text"),
    ]
    against: Annotated[
        str | None, doc("compare with: base (the model without its adapter), or another model")
    ] = None
    kind: Annotated[Kind | None, doc("what answers are worth; found from the rows if absent")] = (
        None
    )
    forget: Annotated[
        list[str] | None,
        doc("ids of up to 4 files, rows or texts, that the model must not be worse on"),
    ] = None
    limit: Annotated[int | None, doc("so many rows of a file at most, drawn by seed")] = None
    seed: Annotated[int | None, doc("of what is drawn; 0 if absent")] = None
    is_constrained: Annotated[
        bool | None, doc("hold answers to the labels, to the fields' schema, or to a call")
    ] = None
    judge: Annotated[str | None, doc("a base model that grades (kind graded)")] = None
    rubric: Annotated[str | None, doc("what a good answer is (kind graded)")] = None
    max_perplexity_rise: Annotated[
        float | None, doc("of a text in forget, as a part of the other's; 0.05 if absent")
    ] = None
    max_score_loss: Annotated[
        float | None, doc("of rows in forget, a score from 0 to 1; 0.02 if absent")
    ] = None
    metadata: Annotated[dict[str, str] | None, doc("up to 16 pairs of text")] = None


def evaluation_request(
    parsed: CreateEvaluationRequest, gateway: Gateway, account_id: str
) -> "tuple[str, EvaluationRequest]":
    """The name of the model's base, and what is asked for, checked; the error names the field."""
    from firefront.tuning.evaluation.evaluate import BASE  # heavy
    from firefront.tuning.jobs import evaluation as asked  # heavy

    base, model = _served(gateway, account_id, parsed.model, "model")
    against = parsed.against
    if against is not None and against != BASE:
        _, against = _served(gateway, account_id, against, "against")
    judge = parsed.judge or None
    if judge is not None:
        judge_base, judge = _served(gateway, account_id, judge, "judge")
        if judge != judge_base:
            raise RequestError("judge: must be a base model", param="judge")
    given = {
        name: value
        for name in ("forget", "seed", "is_constrained", "rubric", *_LIMITS)
        if (value := getattr(parsed, name)) is not None
    }
    request = asked.EvaluationRequest(
        model=model,
        file=parsed.file,
        against=against,
        kind=parsed.kind,
        limit=parsed.limit,
        judge=judge,
        **given,
    )
    return base, asked.checked(request)


def _served(gateway: Gateway, account_id: str, model: str, param: str) -> tuple[str, str]:
    """The base and the full name of a model that is served; NotFoundError names `param`."""
    try:
        _, replica, adapter = gateway.resolve(model, account_id)
    except NotFoundError as error:
        raise NotFoundError(f"{param}: {error.message}", param=param) from None
    return replica.name, replica.name if adapter is None else adapter.model
