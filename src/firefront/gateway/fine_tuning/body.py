"""The body that creates a job, as OpenAI shapes it, and the request that it means.

Ranges are `tuning/jobs/request.py`'s business. Invariant: what would change the outcome and is not
supported is refused by name.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from firefront.core.errors import RequestError
from firefront.gateway.fields import doc
from firefront.gateway.schemas import Refusal, given

if TYPE_CHECKING:
    from firefront.tuning.jobs.request import TuningRequest  # heavy

Auto = Literal["auto"]
_HYPERPARAMETERS = "hyperparameters"


class Hyperparameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`auto`, the default of each, is decided from the rows."""

    n_epochs: Annotated[Auto | int, doc("passes over the rows")] = "auto"
    batch_size: Annotated[Auto | int, doc("rows of one step")] = "auto"
    learning_rate_multiplier: Annotated[
        Auto | float, doc("times the rate that auto would take")
    ] = "auto"
    learning_rate: Annotated[Auto | float, doc("the highest rate itself; not OpenAI's")] = "auto"
    lora_rank: Annotated[Auto | int, doc("of the adapter; not OpenAI's")] = "auto"
    use_rslora: Annotated[
        bool, doc("scale by the root of the rank, for high ranks; not OpenAI's")
    ] = False
    lr_scheduler_type: Annotated[
        Literal["cosine", "linear"], doc("how the rate falls; not OpenAI's")
    ] = "cosine"


class DpoHyperparameters(Hyperparameters, kw_only=True, forbid_unknown_fields=True):
    beta: Annotated[Auto | float, doc("higher: stay closer to the base")] = "auto"


class Supervised(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    hyperparameters: Hyperparameters | None = None


class Dpo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    hyperparameters: DpoHyperparameters | None = None


class TuningMethod(msgspec.Struct, kw_only=True):
    """How to learn from the rows."""

    type: Annotated[str, doc("supervised or dpo", enum=["supervised", "dpo"])]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class CreateJobRequest(msgspec.Struct, kw_only=True):
    """A fine-tuning job."""

    model: Annotated[str, doc("a base model that this server serves")]
    training_file: Annotated[str, doc("a file of purpose fine-tune: JSONL, a row a line")]
    validation_file: Annotated[
        str | None, doc("rows to judge by; without it some are held out")
    ] = None
    method: TuningMethod | None = None
    hyperparameters: Annotated[
        Hyperparameters | None, doc("older place of those of `method`", deprecated=True)
    ] = None
    seed: Annotated[int | None, doc("same seed, same rows: same adapter; random if absent")] = None
    suffix: Annotated[str | None, doc("up to 64 characters for the model's name")] = None
    metadata: Annotated[dict[str, str] | None, doc("up to 16 pairs of text")] = None

    refused: ClassVar[dict[str, Refusal]] = {
        "integrations": (
            given,
            "are not supported; the job's events and its result file have the metrics",
        )
    }
    nested: ClassVar[dict[str, type[msgspec.Struct]]] = {"method": TuningMethod}


def tuning_request(parsed: CreateJobRequest) -> "TuningRequest":
    """What is asked for, checked; RequestError names the field at fault."""
    from firefront.tuning.jobs import request as asked  # heavy

    method = _method(parsed.method)
    found, place = parsed.hyperparameters, _HYPERPARAMETERS
    if (inner := _inner(parsed.method)) is not None:
        if found is not None:
            raise RequestError(f"{place}: are those of method; leave these out", param=place)
        found, place = inner, f"method.{method}.{_HYPERPARAMETERS}"
    values: dict[str, Any] = msgspec.to_builtins(found) if found is not None else {}
    return asked.checked(
        asked.TuningRequest(
            training_file=parsed.training_file,
            validation_file=parsed.validation_file or None,
            method=method,
            hyperparameters=asked.Hyperparameters(**values),
            seed=asked.random_seed() if parsed.seed is None else parsed.seed,
            suffix=parsed.suffix or None,
        ),
        place,
    )


def _method(method: TuningMethod | None) -> Literal["supervised", "dpo"]:
    kind = "supervised" if method is None else method.type
    if kind not in ("supervised", "dpo"):
        raise RequestError(
            f"method.type: {kind[:100]!r} is not supported; supervised or dpo is",
            param="method.type",
        )
    other = "dpo" if kind == "supervised" else "supervised"
    if getattr(method, other, None) is not None:
        raise RequestError(f"method.{other}: the type is {kind}", param=f"method.{other}")
    return "dpo" if kind == "dpo" else "supervised"


def _inner(method: TuningMethod | None) -> Hyperparameters | None:
    if method is None:
        return None
    inner = method.supervised if method.type == "supervised" else method.dpo
    return None if inner is None else inner.hyperparameters
