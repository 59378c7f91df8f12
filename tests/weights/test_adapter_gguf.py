"""GGUF adapters by the gguf package and PEFT: the base with one is the base that PEFT merged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.testing import assert_allclose

from firefront.core.errors import ModelFileError
from firefront.weights.adapter import open_adapter
from firefront.weights.adapter_gguf import gguf_to_peft, write_gguf_adapter
from firefront.weights.gguf import GGUFFile
from firefront.weights.gguf_write import write_gguf
from firefront.weights.layout import adapter_shapes, expected_shapes, gguf_name, hf_name
from firefront.weights.quant import dequantize
from tests.llama_files import save_gguf
from tests.peft_adapters import CONFIGS, deltas, make_adapter, reload
from tests.tiny import TinyModel, tiny_model

ARCHS = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3": gguf.MODEL_ARCH.GEMMA3,
}
# Each linear with a scale of its own: what one alpha a file cannot say.
ODD = {
    "r": 4,
    "use_rslora": True,
    "rank_pattern": {"v_proj": 9, "layers.2.mlp.down_proj": 2},
    "alpha_pattern": {"layers.1.mlp.up_proj": 3.5, "k_proj": 0, "o_proj": -8},
}


def exported(tiny: TinyModel, folder: Path, seed: int = 0, **config: Any) -> tuple[Path, Any]:
    """An adapter as GGUF, and what PEFT makes of the same."""
    adapted = make_adapter(tiny.model, folder / "peft", seed, **config)
    adapter = open_adapter(folder / "peft", adapter_shapes(tiny.config))
    write_gguf_adapter(folder / "adapter.gguf", adapter, tiny.config, "mine")
    return folder / "adapter.gguf", adapted


def added(path: Path) -> dict[str, np.ndarray]:
    """What llama.cpp adds to each weight, by the weight's name: the gguf package reads the file."""
    reader = gguf.GGUFReader(path)
    field = reader.get_field("adapter.lora.alpha")
    alpha = float(field.contents()) if field is not None else 0.0
    matrices = {tensor.name: tensor.data for tensor in reader.tensors}
    found = {}
    for name in [name.removesuffix(".lora_a") for name in matrices if name.endswith(".lora_a")]:
        a, b = matrices.pop(f"{name}.lora_a"), matrices.pop(f"{name}.lora_b")
        assert b.shape[1] == a.shape[0]
        found[name] = np.float32(alpha / b.shape[1] if alpha else 1) * (b @ a)
    assert not matrices
    return found


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3], ODD])
def test_on_the_bases_file_it_is_what_peft_merged(tmp_path: Path, config: dict[str, Any]) -> None:
    tiny = tiny_model("llama")
    path, adapted = exported(tiny, tmp_path, **config)
    base = gguf.GGUFReader(save_gguf(tiny, tmp_path / "base.gguf"))
    merged = tiny._replace(model=adapted.merge_and_unload())
    wanted = gguf.GGUFReader(save_gguf(merged, tmp_path / "merged.gguf"))
    change = added(path)
    assert len(change) == len(deltas(reload(tiny.model, tmp_path / "peft")))
    for before, after in zip(base.tensors, wanted.tensors, strict=True):
        got = before.data + change.pop(before.name, np.float32(0))
        assert_allclose(got, after.data, rtol=1e-5, atol=1e-6, err_msg=before.name)
    assert not change


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "gemma3"])
def test_other_families_have_their_names_and_rows_as_they_are(tmp_path: Path, kind: str) -> None:
    tiny = tiny_model(kind)
    path, adapted = exported(tiny, tmp_path, **ODD)
    names = gguf.get_tensor_name_map(ARCHS[kind], tiny.config.num_layers)
    wanted = {
        names.get_name(f"{name}.weight", (".weight",)): delta
        for name, delta in deltas(adapted).items()
    }
    got = added(path)
    assert got.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert_allclose(got[name], delta, rtol=1e-5, atol=1e-6, err_msg=name)


def test_keys_that_llama_cpp_asks_for(tmp_path: Path) -> None:
    path, _ = exported(tiny_model("llama"), tmp_path, r=4, lora_alpha=32, use_rslora=True)
    reader = gguf.GGUFReader(path)
    assert {name: field.contents() for name, field in reader.fields.items() if "." in name
            and not name.startswith("GGUF")} == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": "mine",
        "general.file_type": gguf.LlamaFileType.ALL_F32,
        "adapter.type": "lora",
        "adapter.lora.alpha": 64.0,
    }  # fmt: skip
    assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F32}


def test_one_scale_leaves_every_matrix_bit_for_bit(tmp_path: Path) -> None:
    tiny = tiny_model("qwen3")
    path, _ = exported(tiny, tmp_path, r=9, lora_alpha=7, use_rslora=True)
    adapter = open_adapter(tmp_path / "peft", adapter_shapes(tiny.config))
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    for module, part in adapter.parts.items():
        name = gguf_name(f"{module}.weight", "qwen3")
        assert np.array_equal(stored[f"{name}.lora_a"], part.a)
        assert np.array_equal(stored[f"{name}.lora_b"], part.b)


def test_half_precision(tmp_path: Path) -> None:
    tiny = tiny_model("llama")
    exported(tiny, tmp_path)
    adapter = open_adapter(tmp_path / "peft", adapter_shapes(tiny.config))
    path = tmp_path / "half.gguf"
    write_gguf_adapter(path, adapter, tiny.config, "mine", np.float16)
    whole, half = gguf.GGUFReader(tmp_path / "adapter.gguf"), gguf.GGUFReader(path)
    assert half.get_field("general.file_type").contents() == gguf.LlamaFileType.MOSTLY_F16
    for one, other in zip(whole.tensors, half.tensors, strict=True):
        assert other.tensor_type == gguf.GGMLQuantizationType.F16
        assert np.array_equal(one.data.astype(np.float16), other.data)
    next(iter(adapter.parts.values())).b[0, 0] = 1e5
    with pytest.raises(ModelFileError, match="too large for float16"):
        write_gguf_adapter(tmp_path / "large.gguf", adapter, tiny.config, "mine", np.float16)
    assert not (tmp_path / "large.gguf").exists()


@pytest.mark.parametrize(("kind", "config"), [("llama", ODD), ("gemma3", {})])
def test_taken_over_it_is_pefts_again(tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    tiny = tiny_model(kind)
    path, adapted = exported(tiny, tmp_path, **config)
    back = tmp_path / "back"
    back.mkdir()
    gguf_to_peft(path, tiny.config, back)
    ours = open_adapter(back, adapter_shapes(tiny.config))
    theirs, wanted = deltas(reload(tiny.model, back)), deltas(adapted)
    assert ours.parts.keys() == theirs.keys() == wanted.keys()
    for name, part in ours.parts.items():
        assert_allclose(theirs[name], wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert_allclose(part.scale * (part.b @ part.a), wanted[name], rtol=1e-5, atol=1e-6)


def rewrite(path: Path, target: Path, **changes: Any) -> Path:
    """The file by the gguf package, with other keys; None leaves one out."""
    reader = gguf.GGUFReader(path)
    keys = {"general_type": "adapter", "adapter_type": "lora", "adapter_lora_alpha": 16.0} | changes
    writer = gguf.GGUFWriter(target, keys.pop("architecture", "llama"))
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key.replace("_", ".", 2), value)
        elif isinstance(value, str):
            writer.add_string(key.replace("_", "."), value)
        elif value is not None:
            writer.add_float32(key.replace("_", "."), value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_without_alpha_the_product_counts_as_it_is(tmp_path: Path, alpha: float | None) -> None:
    tiny = tiny_model("llama")
    first, _ = exported(tiny, tmp_path, r=4, rank_pattern={"v_proj": 2})
    path = rewrite(first, tmp_path / "plain.gguf", adapter_lora_alpha=alpha)
    back = tmp_path / "back"
    back.mkdir()
    gguf_to_peft(path, tiny.config, back)
    ours = open_adapter(back, adapter_shapes(tiny.config))
    assert {part.scale for part in ours.parts.values()} == {1.0}
    got = deltas(reload(tiny.model, back))["model.layers.0.mlp.up_proj"]
    assert_allclose(got, added(path)["blk.0.ffn_up.weight"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"general_type": "model"}, "general.type", "expected 'adapter'"),
        ({"general_type": None}, "general.type", "None, expected 'adapter'"),
        ({"adapter_type": "control_vector"}, "adapter.type", "only 'lora' can"),
        ({"architecture": "qwen2"}, "general.architecture", "the base model is a llama"),
        ({"adapter_lora_alpha": float("nan")}, "adapter.lora.alpha", "expected a finite number"),
        ({"adapter_lora_alpha": "16"}, "adapter.lora.alpha", "expected a finite number"),
        ({"adapter_alora_invocation_tokens": [1]}, "adapter.alora.invocation_tokens", "aLoRA"),
    ],
)
def test_refused_by_its_keys(
    tmp_path: Path, changes: dict[str, Any], field: str, problem: str
) -> None:
    tiny = tiny_model("llama")
    first, _ = exported(tiny, tmp_path, r=2, target_modules=["q_proj"])
    path = rewrite(first, tmp_path / "odd.gguf", **changes)
    with pytest.raises(ModelFileError, match=problem) as caught:
        gguf_to_peft(path, tiny.config, tmp_path)
    assert (caught.value.file, caught.value.field) == (str(path), field)


Tensors = dict[str, np.ndarray]
Q = "blk.0.attn_q.weight"


def _set(name: str, value: np.ndarray | None) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value.astype(np.float32)

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set(f"{Q}.lora_a", None), rf"{Q}.lora_b: its .lora_a is missing"),
        (_set(f"{Q}.lora_b", None), rf"{Q}.lora_a: its .lora_b is missing"),
        (_set(f"{Q}.lora_a", np.zeros((2, 65))), r"shape \(2, 65\), .* want \(2, 64\)"),
        (_set(f"{Q}.lora_b", np.zeros((64, 3))), r"shape \(64, 3\), .* want \(64, 2\)"),
        (_set(f"{Q}.lora_a", np.zeros((257, 64))), "rank 257, at most 256"),
        (_set(f"{Q}.lora_b", np.full((64, 2), np.nan)), "NaN or infinite"),
        (_set("blk.9.attn_q.weight.lora_a", np.zeros((2, 64))), "no linear blk.9.attn_q.weight"),
        (_set("token_embd.weight.lora_a", np.zeros((2, 64))), "no linear token_embd.weight"),
        (_set("output.weight.lora_b", np.zeros((2, 64))), "no linear output.weight"),
        (_set("blk.0.attn_norm.weight", np.zeros(64)), "whole tensors cannot be served"),
        (Tensors.clear, "an empty adapter"),
    ],
)
def test_refused_by_its_tensors(
    tmp_path: Path, change: Callable[[Tensors], None], problem: str
) -> None:
    tiny = tiny_model("llama")
    tensors: Tensors = {f"{Q}.lora_a": np.ones((2, 64), np.float32)}
    tensors[f"{Q}.lora_b"] = np.ones((64, 2), np.float32)
    change(tensors)
    path = tmp_path / "odd.gguf"
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    write_gguf(path, keys, tensors)
    with pytest.raises(ModelFileError, match=problem):
        gguf_to_peft(path, tiny.config, tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()


def test_our_reader_reads_what_our_writer_wrote(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tensors = {
        "a": rng.normal(size=(3, 5)).astype(np.float32),
        "b": rng.normal(size=(7, 1)).astype(np.float16),
        "c": rng.normal(size=9).astype(np.float32),
    }
    keys = {"text": "Grüße", "empty": "", "number": 3_000_000_000, "float": -0.5}
    write_gguf(tmp_path / "x.gguf", keys, tensors)
    file = GGUFFile(tmp_path / "x.gguf")
    assert file.metadata == keys
    for name, values in tensors.items():
        assert file.tensors[name].shape == values.shape
        assert np.array_equal(dequantize(file.tensors[name]), values.astype(np.float32))
    file.close()


def test_names_and_their_inverse() -> None:
    for kind in ARCHS:
        config = tiny_model(kind).config
        for name in expected_shapes(config):
            if name.startswith("model.layers."):
                assert hf_name(gguf_name(name, config.family), config.family) == name


def test_settings_name_the_modules(tmp_path: Path) -> None:
    tiny = tiny_model("llama")
    path, _ = exported(tiny, tmp_path, r=2, target_modules=["layers.0.self_attn.q_proj"])
    back = tmp_path / "back"
    back.mkdir()
    gguf_to_peft(path, tiny.config, back)
    settings = json.loads((back / "adapter_config.json").read_text())
    assert settings["target_modules"] == ["model.layers.0.self_attn.q_proj"]
    assert (settings["r"], settings["lora_alpha"]) == (2, 16.0)
