"""Memory known before loading: what is said is what is then taken, and what happens where there is
too little of it."""

import json
import logging
from types import SimpleNamespace

import msgspec
import pytest

from firefront.backends.cpu import executor as executor_module
from firefront.backends.cpu.executor import footprint, load_checkpoint, load_checkpoints
from firefront.backends.cpu.footprint import Footprint, fit
from firefront.core.deployment import Deployment
from firefront.core.errors import RequestError
from firefront.core.step import BLOCK_SIZE
from tests.random_checkpoint import CONFIG, SCALES, random_checkpoint

MIB = 1 << 20
GIB = 1 << 30
# A model of 1 GiB whose token takes 32 KiB of KV cache and whose context is 16,384 tokens.
MODEL = {
    "model_len": 16384,
    "vocab_size": 1024,
    "weight_bytes": GIB,
    "buffer_bytes": 64 * MIB,
    "block_bytes": BLOCK_SIZE * 32 * 1024,
}


def fitted(free_bytes: int, **fields: int) -> Footprint:
    return fit(Deployment(model="test", **fields), **MODEL, free_bytes=free_bytes)


@pytest.mark.parametrize("dtype", [*SCALES, "F16", "BF16", "F32"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"threads": 1, "context": 100, "token_budget": 16},
        {"threads": 3, "kv_blocks": 77, "token_budget": 1000},
        {"activations": "f32", "kv_blocks": 5},
        {"kv_dtype": "int8", "prefill": "turbo"},
    ],
)
def test_said_before_is_taken_after(dtype: str, fields: dict) -> None:
    checkpoint = random_checkpoint((dtype,))
    deployment = Deployment(model="test", **fields)
    said = footprint(checkpoint, deployment)
    executor = load_checkpoint(checkpoint, deployment)
    assert executor.allocated == {
        "weight_bytes": said.weight_bytes,
        "kv_bytes": said.kv_bytes,
        "buffer_bytes": said.buffer_bytes,
    }
    assert executor.num_blocks == said.num_blocks
    assert executor.max_model_len == said.max_model_len
    # In whole huge pages, so within one of them of what the blocks need.
    assert 0 <= said.kv_bytes - said.num_blocks * executor.kv_block_bytes < 2 * MIB
    stored = sum(tensor.num_bytes for tensor in checkpoint.tensors.values())
    assert said.weight_bytes > 0.9 * stored


@pytest.mark.parametrize("fields", [{}, {"kv_dtype": "int8"}, {"kv_blocks": 40, "threads": 1}])
def test_a_draft_model_is_part_of_what_is_said(fields: dict) -> None:
    checkpoint = random_checkpoint(("Q4_1",))
    smaller = msgspec.structs.replace(CONFIG, num_layers=1, hidden_dim=128, ffn_dim=256)
    beside = random_checkpoint(("Q8_0",), config=smaller)
    deployment = Deployment(model="test", **fields)
    said = footprint(checkpoint, deployment, beside, head_rows=160)
    both = load_checkpoints(checkpoint, beside, deployment, head_rows=160)
    alone = footprint(checkpoint, deployment)
    for name in ("weight_bytes", "kv_bytes", "buffer_bytes"):
        assert getattr(said, name) == sum(executor.allocated[name] for executor in both)
        assert getattr(said, name) > getattr(alone, name)
    assert {said.num_blocks} == {executor.num_blocks for executor in both}
    assert said.max_model_len == both[0].max_model_len
    other = random_checkpoint(("Q8_0",), config=msgspec.structs.replace(smaller, vocab_size=96))
    with pytest.raises(RequestError, match="draft: needs the model's vocabulary"):
        footprint(checkpoint, deployment, other)


def test_enough_memory_gives_sixteen_sequences_of_full_context() -> None:
    need = fitted(64 * GIB, context=2048)
    assert need.num_blocks == 16 * 2048 // BLOCK_SIZE and need.max_model_len == 2048
    assert need.fits and not need.problem


def test_full_context_of_one_sequence_comes_before_the_share_of_the_cache() -> None:
    need = fitted(1900 * MIB)
    assert need.max_model_len == 16384 and not need.problem
    assert need.num_blocks == 16384 // BLOCK_SIZE


def test_little_memory_shortens_the_context_and_says_why() -> None:
    need = fitted(1400 * MIB)
    assert 1024 < need.max_model_len < 16384
    assert f"{need.max_model_len} tokens instead of 16384: 1400 MiB are free" in need.problem
    assert "each token 32.0 KiB" in need.problem
    assert need.total_bytes <= 1400 * MIB


def test_less_memory_never_gives_a_longer_context() -> None:
    lengths = [fitted(free * MIB).max_model_len for free in range(1000, 4000, 7)]
    assert lengths == sorted(lengths) and lengths[0] == 0 and lengths[-1] == 16384
    assert all(length == 0 or length >= 1024 for length in lengths)


def test_too_little_memory_is_refused_with_the_numbers() -> None:
    need = fitted(1100 * MIB)
    assert not need.fits and need.max_model_len == 0
    for number in ("1024 MiB", "64 MiB", "32 MiB (of 1024 tokens)", "1100 MiB are free"):
        assert number in need.problem
    assert "use a smaller model or free memory" in need.problem


def test_blocks_set_by_hand_are_taken_or_refused_never_changed() -> None:
    assert fitted(4 * GIB, kv_blocks=10).num_blocks == 10
    assert fitted(4 * GIB, kv_blocks=10).max_model_len == 160
    refused = fitted(4 * GIB, kv_blocks=10**6)
    assert not refused.fits and refused.problem.endswith("lower --kv-blocks")


def test_a_short_context_that_was_asked_for_needs_only_its_own() -> None:
    least = fitted(1210 * MIB, context=64)
    assert least.fits and least.max_model_len == 64 and not least.problem


def test_loading_on_a_small_machine(monkeypatch, caplog) -> None:
    checkpoint = random_checkpoint(("Q8_0",))
    caplog.set_level(logging.INFO)
    need = footprint(checkpoint, Deployment(model="test"))
    fixed = need.weight_bytes + need.buffer_bytes + need.process_bytes
    room = 2000 * need.kv_bytes_per_token
    monkeypatch.setattr(executor_module, "free_bytes", lambda: fixed + room)
    executor = load_checkpoint(checkpoint, Deployment(model="test"))
    assert executor.max_model_len == 1792  # nine tenths of 2,000 tokens, in blocks
    assert "context is 1792 tokens instead of 4096" in caplog.text
    assert str(executor.footprint) in caplog.text
    monkeypatch.setattr(executor_module, "free_bytes", lambda: fixed)
    with pytest.raises(RequestError, match=r"weights take .* KV cache at least .* are free"):
        load_checkpoint(checkpoint, Deployment(model="test"))


def test_show_and_doctor_say_what_loading_says(
    starter_path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from firefront.cli.main import main
    from firefront.cli.show import describe

    roomy = describe(str(starter_path))["memory"]
    assert roomy["fits"] and not roomy["problem"] and roomy["context"] == 8192
    parts = ("weight_bytes", "kv_bytes", "buffer_bytes", "process_bytes")
    assert roomy["total_bytes"] == sum(roomy[name] for name in parts)
    monkeypatch.setattr(executor_module, "free_bytes", lambda: 330 * MIB)
    assert main(["show", str(starter_path), "--json"]) == 0
    small = json.loads(capsys.readouterr().out)["memory"]
    assert small["fits"] and 1024 <= small["context"] < 8192
    assert main(["show", str(starter_path)]) == 0
    assert f"context is {small['context']} tokens instead of 8192" in capsys.readouterr().out
    monkeypatch.setattr(executor_module, "free_bytes", lambda: 100 * MIB)
    assert main(["show", str(starter_path)]) == 0
    assert "100 MiB are free; use a smaller model" in capsys.readouterr().out


def test_show_and_doctor_count_the_draft_model(
    starter_path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from firefront.cli.doctor import check_models
    from firefront.cli.main import main
    from firefront.cli.output import human_bytes
    from firefront.cli.show import describe
    from firefront.weights.model_store import ModelStore

    spec = str(starter_path)
    alone = describe(spec)["memory"]
    assert alone["draft"] is None
    both = describe(spec, draft=spec)["memory"]
    assert both["weight_bytes"] == 2 * alone["weight_bytes"]  # the same file twice
    assert both["kv_bytes_per_token"] == 2 * alone["kv_bytes_per_token"]
    assert both["buffer_bytes"] > alone["buffer_bytes"]
    assert main(["show", spec, "--draft", spec]) == 0
    assert "in these sums" in capsys.readouterr().out
    monkeypatch.setenv("FIREFRONT_DRAFT", spec)
    assert describe(spec)["memory"]["weight_bytes"] == both["weight_bytes"]
    monkeypatch.setattr(ModelStore, "models", lambda _: [SimpleNamespace(name="it", size=1)])
    monkeypatch.setattr(ModelStore, "path", lambda *_: starter_path)
    monkeypatch.setattr(executor_module, "free_bytes", lambda: GIB)
    (check,) = check_models(False)
    total = describe(spec)["memory"]["total_bytes"]
    assert check.state == "ok" and f"{human_bytes(total)} of memory" in check.text
    monkeypatch.setenv("FIREFRONT_DRAFT", "/nowhere.gguf")
    (check,) = check_models(False)
    assert check.state == "fail" and "/nowhere.gguf" in check.text
