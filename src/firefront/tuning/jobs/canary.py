"""Whether the engine that serves says of an adapter what the trainer says: on the same tokens, with
it and without.

Owns what is compared and the limit. Invariant: an adapter that passed changes what the engine says,
and changes it as it changes the trainer's words, but for the engine's own rounding.
Legend: P predicted tokens, K likeliest tokens of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError
from firefront.core.messages import AdapterRef, Delta, Logprob, Submit
from firefront.core.sampling import MAX_LOGPROBS, SamplingParams
from firefront.engine.engine import Engine
from firefront.tuning.evaluation.ask_engine import run_all
from firefront.tuning.examples import Example

MAX_RATIO = 1.3  # of the divergence that the base by itself has
MAX_KL = 6e-3
MAX_TOKENS = 2000
MAX_LEN = 512
_F32_BYTES = 4 << 30  # a model that is larger in float32 is compared in bfloat16
_NOTHING = 1e-9  # nats: an adapter that moves less says what the base says
_SCORED = SamplingParams(temperature=0.0, max_tokens=0, prompt_logprobs=MAX_LOGPROBS)
Ids = NDArray[np.int32]


class CanaryError(FirefrontError):
    """The engine does not serve what was trained."""

    code = "canary_failed"


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """Mean divergence, nats a token, of the trainer from the engine, over `num_tokens`: without
    the adapter and with it. `effect`: by how many nats the adapter moves what the engine gives a
    token of the rows."""

    num_tokens: int
    base_kl: float
    adapter_kl: float
    effect: float


@dataclass(frozen=True)
class Seen:
    """What the engine says: of each of P tokens the log-probability, `given_P`, and of the
    likeliest in its place, `ids_PK`, theirs."""

    given_P: NDArray[np.float64]
    ids_PK: NDArray[np.int64]
    logprobs_PK: NDArray[np.float64]


def check_parity(base: Deployment, adapter: Path, examples: Sequence[Example]) -> Parity:
    """Compare on tokens of the examples, the engine as `base` is served; CanaryError if they differ
    by more than rounding."""
    sequences = sample(examples)
    served = _served(base, adapter, sequences)
    with_it, without = served
    trained = _trained(base.model, adapter, sequences, served)
    parity = Parity(
        num_tokens=len(with_it.ids_PK),
        base_kl=divergence(without.logprobs_PK, trained[1]),
        adapter_kl=divergence(with_it.logprobs_PK, trained[0]),
        effect=float(np.abs(with_it.given_P - without.given_P).mean()),
    )
    limit = max(MAX_KL, MAX_RATIO * parity.base_kl)
    if not parity.adapter_kl <= limit:  # so that NaN fails too
        raise CanaryError(
            f"the engine does not say what the trainer says: {parity.adapter_kl:.2g} nats a token "
            f"apart with the adapter, {parity.base_kl:.2g} without it, at most {limit:.2g} is "
            "allowed; it is not served"
        )
    if parity.effect < _NOTHING:
        raise CanaryError(
            "the adapter changes nothing of what the engine says; more epochs or a higher "
            "learning rate may help; it is not served"
        )
    return parity


def sample(examples: Sequence[Example]) -> list[Ids]:
    """Beginnings of examples with at least two tokens, at most MAX_TOKENS in all."""
    found: list[Ids] = []
    num_tokens = 0
    for example in examples:
        ids = example.token_ids[:MAX_LEN]
        if len(ids) < 2 or num_tokens + len(ids) > MAX_TOKENS:
            continue
        found.append(ids)
        num_tokens += len(ids)
    return found or [examples[0].token_ids[:MAX_LEN]]


def divergence(served_PK: NDArray[np.float64], trained_PK: NDArray[np.float64]) -> float:
    """Mean KL(served || trained), of each distribution the K tokens and all others as one."""
    p_PK, q_PK = np.exp(served_PK), np.exp(trained_PK)
    rest_p, rest_q = (np.clip(1 - x.sum(axis=1), 1e-12, 1) for x in (p_PK, q_PK))
    kl_P = (p_PK * (served_PK - trained_PK)).sum(axis=1) + rest_p * np.log(rest_p / rest_q)
    return float(kl_P.mean())


def _served(base: Deployment, adapter: Path, sequences: Sequence[Ids]) -> tuple[Seen, Seen]:
    """What the engine says with the adapter and without: in the precision that is served, in as
    little memory as this takes."""
    from firefront.engine.load import build_engine

    small = msgspec.structs.replace(
        base, max_num_seqs=1, context=MAX_LEN, kv_blocks=0, prefix_cache=False, draft=""
    )
    engine, _ = build_engine(small, hold_s=0.25)
    ref = AdapterRef(name="canary", sha256="0" * 64, path=str(adapter))
    return _seen(engine, sequences, ref), _seen(engine, sequences, None)


def _seen(engine: Engine, sequences: Sequence[Ids], adapter: AdapterRef | None) -> Seen:
    said: list[list[Logprob]] = [[] for _ in sequences]

    def take(index: int, delta: Delta) -> None:
        if delta.finish == "error":
            raise CanaryError(f"the engine cannot run it: {delta.error}")
        said[index] += (delta.prompt_logprobs or [])[1:]

    submits = (
        Submit(
            request_id=f"canary-{index}",
            generation=0,
            token_ids=[int(token) for token in token_ids],
            sampling=_SCORED,
            adapter=adapter,
        )
        for index, token_ids in enumerate(sequences)
    )
    run_all(engine, enumerate(submits), take)
    entries = [entry for own in said for entry in own]
    return Seen(
        np.array([entry.logprob for entry in entries]),
        np.array([[token for token, _, _ in entry.top] for entry in entries]),
        np.array([[logprob for _, logprob, _ in entry.top] for entry in entries]),
    )


def _trained(
    model_path: str, adapter: Path, sequences: Sequence[Ids], served: tuple[Seen, Seen]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the trainer gives the tokens that the engine named, with the adapter and without."""
    import torch

    from firefront.backends.torch.lora import lora_of
    from firefront.backends.torch.tree import packed
    from firefront.tuning.train import load_model
    from firefront.weights.adapter import open_adapter
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.layout import adapter_shapes

    with open_checkpoint(model_path) as checkpoint:
        num_values = sum(int(np.prod(t.shape)) for t in checkpoint.tensors.values())
        shapes = adapter_shapes(checkpoint.config)
    dtype = torch.float32 if 4 * num_values <= _F32_BYTES else torch.bfloat16
    model = load_model(model_path, dtype)
    lora = lora_of(model.plan, open_adapter(adapter, shapes).parts)
    found = []
    for seen, deltas in zip(served, (lora, None), strict=True):
        rows, place = [], 0
        for token_ids in sequences:
            num = len(token_ids) - 1
            with torch.no_grad():
                tree = packed([token_ids])
                logits = model.logits(tree, np.arange(num), deltas).double()
                logprobs = torch.log_softmax(logits, -1)
                named = torch.from_numpy(seen.ids_PK[place : place + num])
                rows.append(logprobs.gather(1, named).numpy())
            place += num
        found.append(np.concatenate(rows))
    return found[0], found[1]
