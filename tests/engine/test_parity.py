"""The comparison of a merged model with the adapter beside its base."""

from pathlib import Path

import numpy as np
import pytest

from firefront.engine.parity import Parity, compare
from firefront.weights.adapter import open_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes
from firefront.weights.merge import merge_to_folder
from tests.peft_adapters import logits, make_adapter
from tests.tiny import text, tiny_model


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_what_it_says_is_so(tmp_path: Path, kind: str) -> None:
    tiny = tiny_model(kind)
    tiny.save(tmp_path / "base")
    adapted = make_adapter(tiny.model, tmp_path / "adapter")
    with open_checkpoint(tmp_path / "base") as checkpoint:
        adapter = open_adapter(tmp_path / "adapter", adapter_shapes(checkpoint.config))
        (tmp_path / "merged").mkdir()
        merge_to_folder(checkpoint, adapter, tmp_path / "merged", "F32")
    token_ids = text(tiny, length=150)  # more than are computed at once
    paths = (tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    good = compare(*paths, token_ids)
    assert good.num_tokens == 150 and not good.is_lost
    assert abs(good.kl_merged) < 1e-6 and good.top1_merged > 0.98
    said, base = (_probabilities(logits(m, token_ids)) for m in (adapted, tiny.model))
    expected = (said * np.log(said / base)).sum(1).mean()
    assert good.kl_base == pytest.approx(expected, rel=1e-3)
    assert good.top1_base == pytest.approx((said.argmax(1) == base.argmax(1)).mean(), abs=0.02)
    nothing = compare(tmp_path / "base", tmp_path / "adapter", tmp_path / "base", token_ids)
    assert nothing.kl_merged == pytest.approx(nothing.kl_base)
    assert nothing.is_lost is (kind == "llama")  # the other changes next to nothing


def _probabilities(logits_TV: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits_TV.astype(np.float64) - logits_TV.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("merged", "base", "is_lost"),
    [(1e-5, 1e-6, False), (2e-3, 1e-1, False), (2e-2, 1e-1, True), (2e-3, 1e-3, True)],
)
def test_when_an_adapter_is_lost(merged: float, base: float, is_lost: bool) -> None:
    parity = Parity(
        num_tokens=1, kl_merged=merged, kl_base=base, top1_merged=1.0, top1_base=1.0
    )
    assert parity.is_lost is is_lost
