"""Selecting rows before the last layer's row-wise ops changes no logits, in any family."""

import dataclasses

import numpy as np
import pytest

from firefront.backends.numpy import NumpyExecutor, packed_inputs
from firefront.models import trace_model
from firefront.plan import trace
from firefront.plan.select_early import select_early
from tests.plan.test_trace import CONFIG
from tests.tiny import KINDS, text, tiny_model


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_the_same(kind: str) -> None:
    tiny = tiny_model(kind)
    plan = trace_model(tiny.config).without_cache()
    early = select_early(plan)
    kinds = [op.kind for op in early.ops]
    assert kinds.index("select_rows") == max(i for i, k in enumerate(kinds) if k == "attention") + 1
    inputs = packed_inputs(text(tiny), text(tiny, seed=1, length=20))
    inputs = dataclasses.replace(inputs, logit_rows=np.array([60, 3, 52], np.int32))
    got, want = (
        NumpyExecutor(p, tiny.weights.__getitem__, 0).forward(inputs) for p in (early, plan)
    )
    assert np.abs(got - want).max() <= 1e-5 * want.std()


def test_what_others_read_stays_where_it_is() -> None:
    """An op whose result another row reads, through attention, is not moved."""

    def forward(b, config):  # type: ignore[no-untyped-def]
        x = b.embed(b.token_ids, table=b.weight("t", 8, 4))
        norm = b.rmsnorm(x, weight=b.weight("n", 4), eps=1e-5)
        q, k, v = b.qkv(
            norm, weight=b.weight("w", 12, 4), num_q_heads=2, num_kv_heads=2, head_dim=2,
            norm_eps=1e-5, inv_freq=(1.0,),
        )  # fmt: skip
        mixed = b.attention(q, k, v, layer=0, scale=1.0, window=None, causal=True, cache="paged")
        out = b.linear(mixed, norm, weight=b.weight("o", 4, 4))
        return b.lm_head(b.select_rows(out), weight=b.weight("h", 8, 4))

    early = select_early(trace(forward, CONFIG))
    assert [op.kind for op in early.ops] == [
        "embed", "rmsnorm", "qkv", "attention", "select_rows", "select_rows", "linear", "lm_head",
    ]  # fmt: skip
