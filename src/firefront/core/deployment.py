"""The deployment: all that says how one model is run. The optimizer writes it, `serve` runs it.

`serve`'s flags are exactly these fields; flag > environment (FIREFRONT_*) > file. Unknown keys are
errors. A field is hot (changes while running), warm (restarts the replica) or cold (repacks).
"""

import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from firefront.core.errors import RequestError

Change = Literal["hot", "warm", "cold"]
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_PRICE = re.compile(r"\d{1,6}(\.\d{1,9})?/\d{1,6}(\.\d{1,9})?", re.ASCII)
_AT = re.compile(r" - at `\$\.(\w+)`$")


def _field(change: Change, help_text: str) -> msgspec.Meta:
    return msgspec.Meta(description=help_text, extra={"change": change})


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model's serving configuration; 0 means "chosen at start from the machine"."""

    model: Annotated[str, _field("cold", "model spec: alias, file:, folder, hf:, pypi:")]
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024), _field("warm", "compute threads")] = 0
    kv_dtype: Annotated[
        Literal["bf16", "int8", "f32"], _field("warm", "precision of the KV cache")
    ] = "bf16"
    activations: Annotated[
        Literal["int8", "f32"], _field("warm", "int8, or f32 (KV cache too) to compare")
    ] = "int8"
    prefill: Annotated[
        Literal["exact", "turbo"], _field("warm", "turbo: large batches on weights rounded to int8")
    ] = "exact"
    context: Annotated[int, msgspec.Meta(ge=0), _field("warm", "longest sequence, tokens")] = 0
    kv_blocks: Annotated[
        int, msgspec.Meta(ge=0), _field("warm", "KV blocks of 16 tokens")
    ] = 0
    max_num_seqs: Annotated[
        int, msgspec.Meta(ge=1, le=4096), _field("hot", "sequences running at once")
    ] = 64
    token_budget: Annotated[
        int, msgspec.Meta(ge=16, le=65536), _field("hot", "tokens computed in one step")
    ] = 256
    max_waiting: Annotated[
        int, msgspec.Meta(ge=1), _field("hot", "requests queued before 503")
    ] = 1024
    prefix_cache: Annotated[bool, _field("warm", "reuse KV blocks of equal prefixes")] = True
    speculation: Annotated[
        Literal["off", "ngram"], _field("warm", "draft text that repeats; same tokens, sooner")
    ] = "ngram"
    max_draft: Annotated[
        int, msgspec.Meta(ge=1, le=63), _field("warm", "tokens drafted for a sequence in one step")
    ] = 15
    draft: Annotated[
        str, _field("warm", "smaller model of the same vocabulary that drafts; none if empty")
    ] = ""
    max_adapters: Annotated[
        int, msgspec.Meta(ge=0, le=4096), _field("warm", "adapters in memory; 0: what fits")
    ] = 0
    price: Annotated[
        str, _field("hot", "IN/OUT, dollars for a million tokens of each; empty: none is named")
    ] = ""

    @property
    def token_prices(self) -> tuple[Decimal, Decimal] | None:
        """Dollars for one token of a prompt and of an answer."""
        if not self.price:
            return None
        prompt, _, completion = self.price.partition("/")
        return Decimal(prompt) / 1_000_000, Decimal(completion) / 1_000_000


def load_deployment(
    path: Path | None, env: Mapping[str, str] = os.environ, **flags: Any
) -> Deployment:
    """Merge file, FIREFRONT_* environment and flags (None = not given) into one Deployment.

    Raises RequestError naming the file, variable or flag at fault.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}  # what a field is called where it was given
    if path is not None:
        try:
            values.update(tomllib.loads(path.read_text()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RequestError(f"--deployment {path}: {error}", param="deployment") from None
        origins.update({name: f"{path}: {name}" for name in values})
    for name in Deployment.__struct_fields__:
        if (text := env.get(f"FIREFRONT_{name.upper()}")) is not None:
            values[name], origins[name] = text, f"FIREFRONT_{name.upper()}"
    given = {name: value for name, value in flags.items() if value is not None}
    values.update(given)
    origins.update({name: name for name in given})
    try:
        deployment = msgspec.convert(values, Deployment, strict=False)
    except msgspec.ValidationError as error:
        raise _field_error(str(error), origins) from None
    if deployment.price and not _PRICE.fullmatch(deployment.price):
        raise RequestError(
            f"{origins['price']}: must be dollars for a million tokens of prompts and of answers, "
            f"such as 0.05/0.20; got {deployment.price[:100]!r}",
            param="price",
        )
    return deployment


def _field_error(text: str, origins: Mapping[str, str]) -> RequestError:
    if unknown := _UNKNOWN.search(text):
        name, problem = unknown[1], f"unknown; fields are {', '.join(Deployment.__struct_fields__)}"
    elif at := _AT.search(text):
        name, problem = at[1], text[: at.start()]
    else:
        name, problem = "deployment", text
    return RequestError(f"{origins.get(name, name)}: {problem}", param=name)
