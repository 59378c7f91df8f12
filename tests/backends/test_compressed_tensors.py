"""Int8 checkpoints as the compressed-tensors package itself writes them, beside transformers."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationConfig,
    apply_quantization_config,
    preset_name_to_scheme,
)
from compressed_tensors.quantization.utils import calculate_qparams
from transformers import (
    AutoModelForCausalLM,
    CompressedTensorsConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from firefront.backends.cpu.executor import load
from firefront.core.errors import ModelFileError
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.config_hf import config_from_hf
from firefront.weights.quant import dequantize
from tests.backends.test_cpu_executor import TOLERANCE, deployment, straight

MODEL = LlamaConfig(
    hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=203, max_position_embeddings=128, initializer_range=0.2,
    bos_token_id=1, eos_token_id=2,
)  # fmt: skip


def write(folder: Path, preset: str, **changes) -> Path:
    """A model under one of the package's schemes, rounded to nearest, in its own files."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(MODEL)
    model.lm_head.weight.data *= 4  # logits that are not flat
    scheme = preset_name_to_scheme(preset, ["Linear"]).model_copy(update=changes)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
    apply_quantization_config(model, config, show_progress=False)
    for module in model.modules():
        if not hasattr(module, "weight_scale"):
            continue
        weight, args = module.weight.data, module.quantization_scheme.weights
        if args.group_size:
            weight = weight.unflatten(-1, (-1, args.group_size))
        low, high = weight.amin(-1), weight.amax(-1)
        scale, zero = calculate_qparams(low, high, args)
        module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
        if hasattr(module, "weight_zero_point"):
            module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    return folder


def by_transformers(folder: Path):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=CompressedTensorsConfig(dequantize=True)
    )


def weights_alone() -> dict:
    """Int8 weights under float inputs, kept as bytes rather than packed."""
    return {"input_activations": None, "format": "int-quantized"}


@pytest.mark.parametrize("changes", [{}, weights_alone()], ids=["w8a8", "w8a16"])
def test_int8_is_what_transformers_reads(tmp_path, changes):
    folder = write(tmp_path, "W8A8", **changes)
    model = by_transformers(folder)
    theirs = model.state_dict()
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.tensors.keys() == theirs.keys()
        assert sum(tensor.dtype == "I8" for tensor in checkpoint.tensors.values()) == 14
        for name, tensor in checkpoint.tensors.items():
            np.testing.assert_array_equal(dequantize(tensor), theirs[name].numpy(), name)
    tokens = np.random.default_rng(1).integers(0, 203, 40).astype(np.int32)
    with torch.no_grad():
        want_TV = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].numpy()
    assert want_TV.std() >= 2
    got_TV = straight(load(folder, deployment("f32")), tokens)
    assert np.abs(got_TV - want_TV).max() <= TOLERANCE * want_TV.std()


@pytest.mark.parametrize(
    ("preset", "match"),
    [
        ("W8A16", "format: 'pack-quantized'"),
        ("W4A16", "format: 'pack-quantized'"),
        ("FP8_DYNAMIC", "format: 'float-quantized'"),
    ],
)
def test_other_schemes_of_the_package_are_refused(tmp_path, preset, match):
    with pytest.raises(ModelFileError, match=f"quantization_config.*{match}"):
        open_checkpoint(write(tmp_path, preset))


def test_settings_of_older_files(tmp_path):
    """Observers, ratios and a description of dense weights, as older releases wrote them."""
    settings = json.loads((write(tmp_path, "W8A8") / "config.json").read_text())
    old = settings["quantization_config"]
    old["quantization_status"] = "frozen"
    old["global_compression_ratio"] = 1.24
    old["sparsity_config"] = {
        "format": "dense", "global_sparsity": 0.12, "ignore": [], "targets": ["Linear"],
        "registry_requires_subclass": False, "sparsity_structure": "unstructured",
    }  # fmt: skip
    for part in ("weights", "input_activations"):
        old["config_groups"]["group_0"][part] |= {
            "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {},
        }  # fmt: skip
    config_from_hf("config.json", settings, True)
    sparse = copy.deepcopy(settings)
    sparse["quantization_config"]["sparsity_config"]["format"] = "sparse-24-bitmask"
    with pytest.raises(ModelFileError, match="sparsity_config.format: 'sparse-24-bitmask'"):
        config_from_hf("config.json", sparse, True)
