"""Merged weights: PEFT's own, from folders and from GGUF files, in both forms."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from firefront.core.errors import ModelFileError
from firefront.weights.adapter import open_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.gguf import GGUFFile
from firefront.weights.layout import adapter_shapes
from firefront.weights.merge import merge_to_folder, merge_to_gguf
from firefront.weights.quant import dequantize
from tests.adapter_files import write_adapter
from tests.gemma3_files import save_gguf
from tests.peft_adapters import deltas, make_adapter
from tests.tiny import tiny_model
from tests.weights.crafted import tiny_gguf


def merge(base: Path, adapter: Path, output: Path, **options: object) -> None:
    """Into a folder, or a file where `output` is called so."""
    with open_checkpoint(base) as checkpoint:
        opened = open_adapter(adapter, adapter_shapes(checkpoint.config))
        if output.suffix == ".gguf":
            merge_to_gguf(checkpoint, opened, output, **options)
        else:
            output.mkdir()
            merge_to_folder(checkpoint, opened, output, **options)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as checkpoint:
        return {name: dequantize(tensor) for name, tensor in checkpoint.tensors.items()}


@pytest.mark.parametrize("kind", ["llama", "llama3", "qwen2", "qwen3", "gemma3"])
def test_a_folder_is_what_peft_merges(tmp_path: Path, kind: str) -> None:
    tiny = tiny_model(kind)
    tiny.save(tmp_path / "base")
    adapted = make_adapter(tiny.model, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "out", dtype="F32")
    got = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32")
    wanted, found = adapted.merge_and_unload().state_dict(), got.state_dict()
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-6, atol=1e-6, err_msg=name)
    with open_checkpoint(tmp_path / "base") as one, open_checkpoint(tmp_path / "out") as other:
        assert one.config == other.config


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_halves_are_rounded_to_the_nearest(tmp_path: Path, dtype: str) -> None:
    tiny = tiny_model("llama")
    tiny.save(tmp_path / "base")
    make_adapter(tiny.model, tmp_path / "adapter")
    for name in ("F32", dtype):
        merge(tmp_path / "base", tmp_path / "adapter", tmp_path / name, dtype=name)
    exact, rounded = weights_of(tmp_path / "F32"), weights_of(tmp_path / dtype)
    kind = {"BF16": torch.bfloat16, "F16": torch.float16}[dtype]
    for name, value in exact.items():
        wanted = torch.from_numpy(value).to(kind).float().numpy()
        np.testing.assert_array_equal(rounded[name], wanted, err_msg=name)
    if dtype == "F16":
        stored = safetensors.numpy.load_file(tmp_path / dtype / "model.safetensors")
        assert {value.dtype for value in stored.values()} == {np.dtype(np.float16)}


def test_gguf_to_either_form(tmp_path: Path) -> None:
    """Gemma: norms are stored plus one in GGUF and without it in folders."""
    tiny = tiny_model("gemma3")
    save_gguf(tiny, tmp_path / "base.gguf")
    adapted = make_adapter(tiny.model, tmp_path / "adapter")
    tiny.save(tmp_path / "base")
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "wanted", dtype="F32")
    wanted = weights_of(tmp_path / "wanted")
    assert len(deltas(adapted)) == 7 * tiny.config.num_layers
    for name in ("out", "out.gguf"):
        merge(tmp_path / "base.gguf", tmp_path / "adapter", tmp_path / name, dtype="F32")
        found = weights_of(tmp_path / name)
        assert found.keys() == wanted.keys()
        for tensor, value in wanted.items():
            np.testing.assert_allclose(found[tensor], value, rtol=1e-6, atol=1e-6, err_msg=tensor)


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_a_gguf_keeps_what_is_not_changed(tmp_path: Path, arch: str) -> None:
    """Byte for byte, keys too; what is changed lies in the order of the file. Read back by the
    gguf package."""
    base = tmp_path / "base.gguf"
    base.write_bytes(tiny_gguf(arch, "Q8_0").encode())
    before = GGUFFile(base)
    with open_checkpoint(base) as checkpoint:
        config, shapes = checkpoint.config, adapter_shapes(checkpoint.config)
    target = "model.layers.0.self_attn.q_proj"
    rank, (rows, cols) = 3, shapes[target]
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((rank, cols), (rows, rank)))
    write_adapter(tmp_path / "adapter", {target: (a, b)})
    merge(base, tmp_path / "adapter", tmp_path / "out.gguf", dtype="F32")
    after = GGUFFile(tmp_path / "out.gguf")
    assert after.metadata == before.metadata and after.tensors.keys() == before.tensors.keys()
    for name, tensor in before.tensors.items():
        if name != "blk.0.attn_q.weight":
            assert after.tensors[name].dtype == tensor.dtype
            assert bytes(after.tensors[name].data) == bytes(tensor.data)
    plain, merged = weights_of(base), weights_of(tmp_path / "out.gguf")
    wanted = plain[f"{target}.weight"] + 2.0 * b @ a
    np.testing.assert_allclose(merged[f"{target}.weight"], wanted, rtol=1e-5, atol=1e-5)
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert names == set(before.tensors) and config.family == arch
    merge(base, tmp_path / "adapter", tmp_path / "t.gguf", template="{{ other }}")
    metadata = GGUFFile(tmp_path / "t.gguf").metadata
    assert metadata == before.metadata | {"tokenizer.chat_template": "{{ other }}"}


def test_half_that_overflows_is_refused(tmp_path: Path) -> None:
    tiny = tiny_model("llama")
    tiny.save(tmp_path / "base")
    shape = adapter_shapes(tiny.config)["model.layers.0.mlp.down_proj"]
    a, b = np.ones((1, shape[1]), np.float32), np.full((shape[0], 1), 1e6, np.float32)
    write_adapter(tmp_path / "adapter", {"model.layers.0.mlp.down_proj": (a, b)})
    with pytest.raises(ModelFileError, match=r"down_proj.weight: value: is too large for f16"):
        merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "out", dtype="F16")
