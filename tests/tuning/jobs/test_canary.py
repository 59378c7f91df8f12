"""The canary: a sound adapter passes, one that the engine takes otherwise does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from firefront.core.deployment import Deployment
from firefront.tuning.adapter_file import write_adapter
from firefront.tuning.examples import Example
from firefront.tuning.jobs.canary import MAX_TOKENS, CanaryError, check_parity, divergence, sample
from firefront.tuning.settings import LoraSettings
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes
from tests.tuning.tiny_chat import NUM_TOKENS, save_chat_model

pytest.importorskip("torch")
LORA = LoraSettings(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(model=str(save_chat_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture
def make_adapter(base: Deployment, tmp_path: Path) -> Callable[[float], Path]:
    def make(size: float) -> Path:
        rng = np.random.default_rng(0)
        with open_checkpoint(base.model) as checkpoint:
            shapes = adapter_shapes(checkpoint.config)
        folder = tmp_path / f"adapter{size}"
        folder.mkdir()
        modules = [
            (name, rng.standard_normal((4, k)).astype(np.float32) / k**0.5,
             (rng.standard_normal((n, 4)) * size).astype(np.float32))
            for name, (n, k) in shapes.items()
        ]  # fmt: skip
        write_adapter(folder, modules, LORA, "base")
        return folder

    return make


def examples(num: int = 8, length: int = 40) -> list[Example]:
    rng = np.random.default_rng(1)
    return [
        Example(ids.astype(np.int32), np.ones(length, np.float32), 0)
        for ids in rng.integers(0, NUM_TOKENS, (num, length))
    ]


@pytest.mark.parametrize(
    ("served", "limit"),
    [({}, 6e-3), ({"kv_dtype": "int8"}, 6e-3), ({"activations": "f32"}, 1e-5)],
)
def test_a_sound_adapter_passes(
    base: Deployment,
    make_adapter: Callable[[float], Path],
    served: dict[str, Any],
    limit: float,
) -> None:
    served_so = msgspec.structs.replace(base, **served)
    parity = check_parity(served_so, make_adapter(0.3), examples())
    assert parity.num_tokens == 8 * 39
    assert parity.adapter_kl < limit and parity.effect > 6e-3


def test_another_scale_is_found(
    base: Deployment, make_adapter: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would be given an adapter of half the strength."""
    from firefront.weights import adapter as module

    real = module.open_adapter
    calls = []

    def halved(folder: Path, shapes: Any) -> Any:
        found = real(folder, shapes)
        calls.append(folder)
        if len(calls) == 1:  # the engine is the first to read it
            for part in found.parts.values():
                np.multiply(part.b, 0.5, out=part.b)
        return found

    monkeypatch.setattr(module, "open_adapter", halved)
    with pytest.raises(CanaryError, match="does not say what the trainer says"):
        check_parity(base, make_adapter(0.3), examples())
    assert len(calls) == 2


def test_an_adapter_that_does_nothing_is_found(
    base: Deployment, make_adapter: Callable[[float], Path]
) -> None:
    with pytest.raises(CanaryError, match="changes nothing"):
        check_parity(base, make_adapter(0.0), examples())


def test_the_sample_is_bounded() -> None:
    assert sum(map(len, sample(examples(100, 600)))) <= MAX_TOKENS
    assert [len(ids) for ids in sample(examples(1, 600))] == [512]


def test_divergence_by_hand() -> None:
    p = np.log(np.array([[0.5, 0.25]]))
    q = np.log(np.array([[0.25, 0.25]]))
    expected = 0.5 * np.log(2) + 0.25 * np.log(0.25 / 0.5)
    assert divergence(p, q) == pytest.approx(expected)
    assert divergence(p, p) == 0
