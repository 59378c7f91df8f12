"""The torch interpreter against transformers, and its gradients against PEFT, in float32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from firefront.backends.torch import attention, functions
from firefront.backends.torch.interpreter import TorchModel
from firefront.backends.torch.lora import Lora, lora_of, new_lora
from firefront.backends.torch.tree import Tree, packed, tree_of
from firefront.models import trace_model
from firefront.weights.adapter import open_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes
from firefront.weights.quant import dequantize
from tests.peft_adapters import make_adapter
from tests.tiny import KINDS, WINDOW, TinyModel, text, tiny_model, transformers_logits

TOLERANCE = 1e-4  # of the standard deviation
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma3_capped"]


@pytest.fixture(scope="module", params=list(KINDS))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return tiny_model(request.param)


def family(tiny: TinyModel, seed: int = 0) -> list[NDArray[np.int32]]:
    """Sequences that share beginnings: longer than the window, two deep, one whole, one twice."""
    root, branch = text(tiny, seed, WINDOW + 9), text(tiny, seed + 1, 12)
    ends = [text(tiny, seed + 2 + i, length) for i, length in enumerate((25, 3, 14, 1, 31))]
    two_deep = [np.concatenate([root, branch, end]) for end in ends[:2]]
    one_deep = [np.concatenate([root, end]) for end in ends[2:4]]
    return [*two_deep, ends[4], *one_deep, root, one_deep[0]]


def error(got: torch.Tensor, want: NDArray[np.float32]) -> float:
    return float(np.abs(got.detach().numpy() - want).max() / want.std())


@pytest.mark.parametrize("lay_out", [tree_of, packed])
def test_agrees_with_transformers(
    tiny: TinyModel, lay_out: Callable[..., Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = family(tiny)
    tree = lay_out(sequences)
    if lay_out is packed:  # the way that long sequences take
        monkeypatch.setattr(attention, "LONG_LEN", 1)
    else:
        assert len(tree.segments) == 7 and max(s.parent for s in tree.segments) > 0
    model = TorchModel(trace_model(tiny.config), tiny.weights.__getitem__)
    logits = model.logits(tree, np.concatenate(tree.places))
    want = np.concatenate([transformers_logits(tiny, sequence) for sequence in sequences])
    assert error(logits, want) <= TOLERANCE


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("max_scores", [attention.MAX_SCORES, 0])
def test_gradients_agree_with_peft(
    kind: str, max_scores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits with the adapter, and the gradients of all of it, on the same files."""
    monkeypatch.setattr(functions, "TILE_ROWS", 37)
    monkeypatch.setattr(attention, "MAX_SCORES", max_scores)
    tiny = tiny_model(kind)
    cap = tiny.config.extras.attention_softcap
    tiny.save(tmp_path / "base")
    settings = {"r": 4, "lora_alpha": 6, "use_rslora": True}
    oracle = make_adapter(tiny.model, tmp_path / "adapter", **settings)
    sequences = family(tiny)
    weights = [np.linspace(-1, 2, len(ids)).astype(np.float32) for ids in sequences]
    loss, want_logits = torch.zeros(()), []
    for ids, weight in zip(sequences, weights, strict=True):
        options = {} if cap is None else {"softcap": cap}
        logits = oracle(torch.from_numpy(ids.astype(np.int64))[None], **options).logits[0]
        want_logits.append(logits.detach().numpy())
        scores = torch.log_softmax(logits[:-1], -1)
        targets = torch.from_numpy(ids[1:].astype(np.int64))[:, None]
        loss = loss + (scores.gather(1, targets)[:, 0] * torch.from_numpy(weight[1:])).sum()
    loss.backward()

    with open_checkpoint(tmp_path / "base") as checkpoint:
        config, tensors = checkpoint.config, checkpoint.tensors
        model = TorchModel(trace_model(config), lambda name: dequantize(tensors[name]))
    adapter = open_adapter(tmp_path / "adapter", adapter_shapes(config))
    lora = lora_of(model.plan, adapter.parts)
    tree = tree_of(sequences)
    rows = np.concatenate([places[:-1] for places in tree.places])
    targets = np.concatenate([ids[1:] for ids in sequences])
    logprobs = model.logprobs(tree, rows, targets, lora)
    ours = (logprobs * torch.from_numpy(np.concatenate([w[1:] for w in weights]))).sum()
    ours.backward()

    logits = model.logits(tree, np.concatenate(tree.places), lora)
    assert error(logits, np.concatenate(want_logits)) <= TOLERANCE
    assert abs(ours.item() - loss.item()) <= 1e-5 * abs(loss.item())
    got = gradients(lora)
    want = {
        name.replace("base_model.model.", "").replace(".default.weight", ""): parameter.grad
        for name, parameter in oracle.named_parameters()
        if "lora_" in name
    }
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        assert error(got[name], gradient.numpy()) <= 1e-3, name


def gradients(lora: Lora) -> dict[str, torch.Tensor]:
    """By PEFT's names, from the flat buffer."""
    found = {}
    for delta in lora.deltas.values():
        for name, part, b in zip(delta.modules, delta.parts, delta.bs, strict=True):
            found[f"{name}.lora_A"] = delta.a.grad[part.ranks]
            found[f"{name}.lora_B"] = b.grad
            assert b.grad.untyped_storage().data_ptr() == lora.grads.untyped_storage().data_ptr()
    return found


def test_bfloat16_is_the_same_but_for_rounding() -> None:
    tiny = tiny_model("qwen2")
    plan, sequences = trace_model(tiny.config), family(tiny)
    tree = tree_of(sequences)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = TorchModel(plan, tiny.weights.__getitem__, dtype)
        lora = new_lora(plan, None, 4, 1.0, seed=1)
        for _, _, b, _ in lora.modules():
            b.normal_(generator=torch.Generator().manual_seed(2)).mul_(0.1)
        places = tree.places[0]
        logprobs = model.logprobs(tree, places[:-1], sequences[0][1:], lora)
        logprobs.sum().backward()
        found[dtype] = logprobs.detach(), lora.grads
    (want, want_grads), (got, got_grads) = found[torch.float32], found[torch.bfloat16]
    assert 1e-4 < (got - want).abs().mean() < 0.3
    assert torch.cosine_similarity(got_grads, want_grads, dim=0) > 0.98


def test_the_adapter_starts_as_nothing_and_only_on_its_targets() -> None:
    tiny = tiny_model("llama")
    plan = trace_model(tiny.config)
    model = TorchModel(plan, tiny.weights.__getitem__)
    tree = tree_of(family(tiny))
    rows = tree.places[0]
    lora = new_lora(plan, ["k_proj", "down_proj"], 3, 2.0, seed=0)
    assert torch.equal(model.logits(tree, rows, lora), model.logits(tree, rows))
    names = [name for name, *_ in lora.modules()]
    assert len(names) == 6 and {name.rpartition(".")[2] for name in names} == {
        "k_proj",
        "down_proj",
    }
    _, a, _, scale = next(iter(lora.modules()))
    assert scale == 2.0 and 0.9 * 64**-0.5 < a.abs().max() <= 64**-0.5
    with pytest.raises(
        ValueError, match=r"target 'lm_head': the model's linear layers are \['down"
    ):
        new_lora(plan, ["lm_head"], 3, 2.0, seed=0)
