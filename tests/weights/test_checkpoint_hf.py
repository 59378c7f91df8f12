"""open_checkpoint on Hugging Face folders: as transformers writes them, and damaged."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from firefront.core.errors import ModelFileError
from firefront.core.model_config import RopeConfig
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.config_hf import config_from_hf
from firefront.weights.quant import dequantize
from tests.weights.crafted import hf_config, hf_folder

SIZES = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=160, max_position_embeddings=128, initializer_range=0.5,
)  # fmt: skip
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama-tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 16}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 32, "tie_word_embeddings": True}),
}


def build(kind):
    model_class, config_class, extra = MODELS[kind]
    torch.manual_seed(0)
    return model_class(config_class(**SIZES, **extra))


@pytest.mark.parametrize("shard_bytes", [None, 40_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MODELS)
def test_as_transformers_writes_it(tmp_path, kind, dtype, shard_bytes):
    model = build(kind).to(dtype)
    model.save_pretrained(tmp_path, **({"max_shard_size": shard_bytes} if shard_bytes else {}))
    assert (tmp_path / "model.safetensors").exists() == (shard_bytes is None)
    theirs = model.state_dict()
    with open_checkpoint(tmp_path) as checkpoint:
        config = checkpoint.config
        assert config.family == ("llama" if kind.split("-")[0] in ("llama", "mistral") else kind)
        assert config.tie_embeddings == bool(model.config.tie_word_embeddings)
        assert config.head_dim == (32 if kind == "qwen3" else 16)
        assert config.sliding_window == (16 if kind == "mistral" else None)
        assert config.qkv_bias == (kind == "qwen2")
        assert config.rope == RopeConfig(theta=10000.0)
        expected = set(theirs) - ({"lm_head.weight"} if config.tie_embeddings else set())
        assert checkpoint.tensors.keys() == expected
        for name, tensor in checkpoint.tensors.items():
            assert np.array_equal(dequantize(tensor), theirs[name].float().numpy()), name
        assert checkpoint.metadata["model_type"] == kind.split("-")[0]


def rope_of(**changes):
    return config_from_hf("config.json", hf_config(**changes), True).rope


def test_rope_in_every_spelling():
    assert rope_of() == RopeConfig(10000.0)
    assert rope_of(rope_theta=5e5) == RopeConfig(5e5)
    assert rope_of(rope_theta=5e5, rope_scaling=None) == RopeConfig(5e5)
    assert rope_of(rope_parameters={"rope_type": "default", "rope_theta": 1e6}) == RopeConfig(1e6)
    linear = RopeConfig(1e4, (2.0,) * 8)
    assert rope_of(rope_scaling={"type": "linear", "factor": 2.0}) == linear
    assert rope_of(rope_scaling={"rope_type": "linear", "factor": 2}) == linear
    assert rope_of(rope_parameters={"rope_type": "linear", "factor": 2.0}) == linear
    llama3 = {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64, "rope_type": "llama3",
    }  # fmt: skip
    old = rope_of(rope_theta=5e5, rope_scaling=llama3)
    assert old == rope_of(rope_parameters={"rope_theta": 5e5, **llama3})
    assert old.factors is not None and len(old.factors) == 8 and max(old.factors) == 8.0


def window_of(family, **changes):
    return config_from_hf("c", hf_config(family, **changes), True).sliding_window


def test_sliding_window():
    assert window_of("llama", sliding_window=16) is None  # as transformers
    assert window_of("mistral", sliding_window=None) is None
    assert window_of("mistral") == 4096
    assert window_of("qwen2", sliding_window=16) is None
    on = {"use_sliding_window": True, "sliding_window": 16}
    assert window_of("qwen2", **on, max_window_layers=0) == 16
    assert window_of("qwen3", **on, max_window_layers=2) is None
    assert window_of("qwen3", **on, layer_types=["sliding_attention"] * 2) == 16
    with pytest.raises(ModelFileError, match="max_window_layers.*all or none"):
        window_of("qwen2", **on, max_window_layers=1)
    with pytest.raises(ModelFileError, match="layer_types"):
        window_of("qwen2", **on, layer_types=["full_attention"])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gpt2"}, "model_type: 'gpt2' is not supported, these are: llama"),
        ({"model_type": None}, "model_type: missing"),
        ({"model_type": ["llama"]}, "model_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu' is not supported, silu is"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"mlp_bias": 1}, "mlp_bias.*true or false"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn' is not supported.*llama3"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor: missing"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor"),
        ({"rope_scaling": {"type": 3}}, "rope_type"),
        ({"rope_scaling": "linear"}, "rope_scaling: expected an object"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor: missing"),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                }
            },
            "high_freq_factor",
        ),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "differ by layer"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": "1e4"}, "rope_theta"),
        ({"rms_norm_eps": -1e-5}, "rms_norm_eps"),
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 10**30}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 3}, "cannot be shared"),
        ({"head_dim": 15}, "is odd"),
        ({"vocab_size": 1 << 30}, "vocab_size"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)  # fmt: skip
def test_refused_settings(changes, match):
    with pytest.raises(ModelFileError, match=match):
        config_from_hf("config.json", hf_config(**changes), True)


def test_kv_heads_default_only_for_llama():
    settings = hf_config()
    del settings["num_key_value_heads"]
    assert config_from_hf("c", settings, True).num_kv_heads == 4
    settings = hf_config("qwen2")
    del settings["num_key_value_heads"]
    with pytest.raises(ModelFileError, match="num_key_value_heads: missing"):
        config_from_hf("c", settings, True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"vocab_size": 47},
            r"model.embed_tokens.weight.*\(48, 64\), the config asks for \(47, 64",
        ),
        ({"num_hidden_layers": 1}, r"model.layers.1.*not part of a llama model"),
        ({"num_hidden_layers": 3}, r"model.layers.2.*missing \(and 8 more\)"),
        ({"intermediate_size": 95}, "gate_proj.weight.*asks for"),
        ({"num_key_value_heads": 4}, "k_proj.weight.*asks for"),
        ({"head_dim": 32}, "q_proj.weight.*asks for"),
        ({"model_type": "qwen2", "architectures": None}, "q_proj.bias: tensor is missing"),
    ],
)
def test_settings_against_tensors(tmp_path, changes, match):
    with pytest.raises(ModelFileError, match=match):
        open_checkpoint(hf_folder(tmp_path / "model", **changes))


def rewrite(folder, change):
    """Run `change` on the dict of tensors of a folder's model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_tied_or_not(tmp_path, caplog):
    folder = hf_folder(tmp_path / "model", tie_word_embeddings=True)
    with open_checkpoint(folder) as checkpoint:  # differs from the embedding: used, with a warning
        assert not checkpoint.config.tie_embeddings and "lm_head" in caplog.text

    def tie(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    with open_checkpoint(rewrite(folder, tie)) as checkpoint:
        assert checkpoint.config.tie_embeddings
        assert "lm_head.weight" not in checkpoint.tensors
    rewrite(folder, lambda tensors: tensors.pop("lm_head.weight"))
    open_checkpoint(folder).close()
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    with pytest.raises(ModelFileError, match="lm_head.weight: tensor is missing"):
        open_checkpoint(folder)


def test_old_rotary_tables_are_skipped_other_strangers_refused(tmp_path):
    folder = hf_folder(tmp_path / "model")

    def add(name):
        return lambda tensors: tensors.update({name: np.ones(8, np.float32)})

    with open_checkpoint(
        rewrite(folder, add("model.layers.0.self_attn.rotary_emb.inv_freq"))
    ) as checkpoint:
        assert not any("inv_freq" in name for name in checkpoint.tensors)
    with pytest.raises(ModelFileError, match="sinks: not part of"):
        open_checkpoint(rewrite(folder, add("model.layers.0.self_attn.sinks")))


def test_auto_map_is_ignored_with_a_warning(tmp_path, caplog):
    folder = hf_folder(
        tmp_path / "model", auto_map={"AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"}
    )
    canary = tmp_path / "canary"
    (folder / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    with caplog.at_level(logging.WARNING), open_checkpoint(folder):
        assert "auto_map is ignored" in caplog.text
    assert not canary.exists()


def test_paths_that_are_no_model(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(ModelFileError, match="no such file"):
        open_checkpoint("a\0b")
    with pytest.raises(ModelFileError, match="config.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelFileError, match="neither"):
        open_checkpoint(tmp_path)
    with pytest.raises(ModelFileError, match="expected a .gguf file, or the folder"):
        open_checkpoint(tmp_path / "config.json")
    folder = hf_folder(tmp_path / "big")
    (folder / "config.json").write_text(" " * (2 << 20))
    with pytest.raises(ModelFileError, match="at most"):
        open_checkpoint(folder)


GROUP = {
    "weights": {
        "num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False,
        "group_size": None,
    },
    "input_activations": {
        "num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True,
    },
    "output_activations": None,
    "targets": ["Linear"],
}  # fmt: skip
INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "config_groups": {"group_0": GROUP},
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
    "sparsity_config": {},
    "transform_config": {},
    "version": "0.20.0",
}


def changed(*path, value):
    """INT8 with one setting replaced."""
    settings = json.loads(json.dumps(INT8))
    inside = settings
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return settings


def to_int8(tensors, scale_dtype=np.float32):
    """What compressed-tensors stores of the linears: rounded rows, and their scales as a column."""
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = tensors[name]
        scale = (np.abs(weight).max(axis=1, keepdims=True) / 127).astype(scale_dtype)
        tensors[name] = np.rint(weight / scale.astype(np.float32)).clip(-128, 127).astype(np.int8)
        tensors[name + "_scale"] = scale


@pytest.mark.parametrize("scale_dtype", [np.float32, np.float16])
def test_int8_with_a_scale_a_row(tmp_path, scale_dtype):
    folder = hf_folder(tmp_path / "model", quantization_config=INT8)
    rewrite(folder, lambda tensors: to_int8(tensors, scale_dtype))
    stored = load_file(folder / "model.safetensors")
    with open_checkpoint(folder) as checkpoint:
        assert not any(name.endswith("_scale") for name in checkpoint.tensors)
        kinds = {name: tensor.dtype for name, tensor in checkpoint.tensors.items()}
        assert sum(dtype == "I8" for dtype in kinds.values()) == 14
        assert kinds["lm_head.weight"] == kinds["model.norm.weight"] == "F32"
        for name, tensor in checkpoint.tensors.items():
            want = stored[name].astype(np.float32)
            if tensor.dtype == "I8":
                want = want * stored[name + "_scale"].astype(np.float32)
            assert np.array_equal(dequantize(tensor), want), name


def test_int8_needs_its_scales(tmp_path):
    folder = rewrite(hf_folder(tmp_path / "plain"), to_int8)
    with pytest.raises(ModelFileError, match="q_proj.weight: int8 .*quantization_config"):
        open_checkpoint(folder)
    name = "model.layers.1.mlp.up_proj.weight_scale"
    for change, match in (
        (lambda t: t.pop(name), "up_proj.weight: int8 weights need model.*up_proj.weight_scale"),
        (lambda t: t.update({name: t[name][1:]}), r"up_proj.weight_scale.*\(96, 1\)"),
        (lambda t: t.update({name: t[name].astype(np.int8)}), "up_proj.weight_scale.*floats"),
        (
            lambda t: t.update({name[:-5] + "zero_point": np.ones((96, 1), np.int8)}),
            "weight_zero_point: not part of",
        ),
    ):
        folder = hf_folder(tmp_path / "model", quantization_config=INT8)
        rewrite(rewrite(folder, to_int8), change)
        with pytest.raises(ModelFileError, match=match):
            open_checkpoint(folder)


def group(*path, value):
    return changed("config_groups", "group_0", *path, value=value)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (changed("quant_method", value="gptq"), "quant_method: 'gptq' is not supported"),
        (changed("format", value="pack-quantized"), "format: 'pack-quantized'.*int-quantized"),
        (changed("config_groups", value={}), "config_groups: empty"),
        (changed("config_groups", value=None), "config_groups: missing"),
        (changed("kv_cache_scheme", value={"num_bits": 8}), "kv_cache_scheme"),
        (changed("transform_config", value={"config_groups": {}}), "transform_config"),
        (changed("sparsity_config", value={"format": "sparse-24-bitmask"}), "sparsity_config"),
        (group("weights", value=None), "group_0.weights: missing"),
        (group("weights", "num_bits", value=4), "group_0.weights.num_bits: '4' is not .*8 is"),
        (group("weights", "num_bits", value=8.0), "weights.num_bits"),
        (group("weights", "type", value="float"), "weights.type: 'float'"),
        (group("weights", "strategy", value="group"), "weights.strategy: 'group'"),
        (group("weights", "symmetric", value=False), "weights.symmetric"),
        (group("weights", "symmetric", value=1), "weights.symmetric"),
        (group("input_activations", "dynamic", value=False), "input_activations.dynamic"),
        (group("input_activations", "num_bits", value=4), "input_activations.num_bits"),
        (group("output_activations", value={"num_bits": 8}), "output_activations"),
        ([], "expected an object"),
    ],
)
def test_other_quantisations_are_refused(settings, match):
    with pytest.raises(ModelFileError, match=f"quantization_config.*{match}"):
        config_from_hf("config.json", hf_config(quantization_config=settings), True)


def test_weights_alone_may_be_quantised():
    config_from_hf("c", hf_config(quantization_config=group("input_activations", value=None)), True)
