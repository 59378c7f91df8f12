"""Gemma 3 in both kinds of files: one meaning inside, and transformers' reading of each."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from msgspec.structs import asdict
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from firefront.backends.cpu.executor import load
from firefront.backends.numpy import logits
from firefront.core.errors import ModelFileError
from firefront.core.model_config import Extras, RopeConfig
from firefront.models import trace_model
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.config_fields import gemma_embed_scale
from firefront.weights.config_gguf import config_from_gguf
from firefront.weights.config_hf import config_from_hf
from firefront.weights.quant import dequantize
from firefront.weights.tensor import Tensor
from tests.backends.test_cpu_executor import deployment, straight
from tests.gemma3_files import save_gguf
from tests.tiny import KINDS, text, tiny_model, transformers_logits

GEMMA3 = [kind for kind in KINDS if kind.startswith("gemma3")]


def near(config: Any) -> Any:
    """A config to compare with another one: files keep numbers as float32."""
    if isinstance(config, float):
        return pytest.approx(config, rel=1e-6)
    if hasattr(config, "__struct_fields__"):
        return {name: near(value) for name, value in asdict(config).items()}
    return tuple(map(near, config)) if isinstance(config, tuple) else config


@pytest.mark.parametrize("kind", GEMMA3)
def test_both_kinds_of_files_are_one_model(kind: str, tmp_path: Path) -> None:
    tiny = tiny_model(kind)
    tiny.save(tmp_path / "folder")
    paths = [tmp_path / "folder", save_gguf(tiny, tmp_path / "model.gguf")]
    with open_checkpoint(paths[0]) as folder, open_checkpoint(paths[1]) as file:
        assert near(folder.config) == near(tiny.config)
        assert near(file.config) == near(tiny.config)
        assert folder.tensors.keys() == file.tensors.keys() == tiny.weights.keys()
        for name, weight in tiny.weights.items():
            np.testing.assert_array_equal(dequantize(folder.tensors[name]), weight)
            np.testing.assert_array_equal(dequantize(file.tensors[name]), weight)
    token_ids = text(tiny)
    want = transformers_logits(tiny, token_ids)
    for path in paths:
        got = straight(load(path, deployment("f32")), token_ids)
        assert np.abs(got - want).max() <= 1e-4 * want.std(), path


def test_transformers_reads_the_same_from_our_gguf(tmp_path: Path) -> None:
    """It knows no keys for pattern and the windows' rope either, so these are Gemma's own."""
    tiny = tiny_model(
        "gemma3",
        num_hidden_layers=7,
        layer_types=None,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        query_pre_attn_scalar=256,
        head_dim=256,
    )
    path = save_gguf(tiny, tmp_path / "model.gguf")
    read = load_gguf_checkpoint(path, return_tensors=True, model_to_load=tiny.model)
    config = transformers.Gemma3TextConfig(
        **read["config"], vocab_size=203, attn_implementation="eager"
    )
    theirs = transformers.Gemma3ForCausalLM(config).eval()
    missing = theirs.load_state_dict(read["tensors"], strict=False)
    assert missing == (["lm_head.weight"], [])  # tied
    token_ids = text(tiny)
    want = transformers_logits(tiny._replace(model=theirs), token_ids)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config.extras.full_layers == (5,)
        assert checkpoint.config.rope == RopeConfig(1e6)
        load_weight = {name: dequantize(t) for name, t in checkpoint.tensors.items()}.__getitem__
        got = logits(trace_model(checkpoint.config), load_weight, token_ids)
    assert np.abs(got - want).max() <= 1e-4 * want.std()


# config.json.

# As the published 1B model's file has it.
PUBLISHED: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "initializer_range": 0.02,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 262144,
}


def ours(**changes: Any) -> Any:
    return config_from_hf("config.json", PUBLISHED | changes, False, "BF16")


def test_the_published_file() -> None:
    config = ours()
    assert (config.family, config.tie_embeddings, config.qkv_bias) == ("gemma3", True, False)
    assert (config.head_dim, config.hidden_dim, config.sliding_window) == (256, 1152, 512)
    assert config.rope == RopeConfig(1e6)
    assert config.extras == Extras(
        full_layers=(5, 11, 17, 23),
        window_rope=RopeConfig(1e4),
        embed_scale=34.0,  # of 33.94, in bfloat16
        attention_scale=256**-0.5,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "sliding_window_pattern": 4},
        {"layer_types": ["full_attention"] + ["sliding_attention"] * 25},
        {"sliding_window_pattern": 1},
        {"query_pre_attn_scalar": 168, "final_logit_softcapping": 30.0, "sliding_window": 7},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 3e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
            }
        },
    ],
)
def test_settings_mean_what_transformers_takes_them_for(changes: dict[str, Any]) -> None:
    theirs = transformers.Gemma3TextConfig(**(PUBLISHED | changes))
    config = ours(**changes)
    kinds = ["sliding_attention"] * 26
    for layer in config.extras.full_layers:
        kinds[layer] = "full_attention"
    assert kinds == theirs.layer_types
    ropes = {"full_attention": config.rope, "sliding_attention": config.extras.window_rope}
    for kind, rope in ropes.items():
        settings = theirs.rope_parameters[kind]
        assert rope is not None and rope.theta == settings["rope_theta"]
        factor = settings["factor"] if settings["rope_type"] == "linear" else None
        assert rope.factors == (None if factor is None else (factor,) * 128)
    assert config.extras.attention_scale == theirs.query_pre_attn_scalar**-0.5
    assert config.extras.logit_softcap == theirs.final_logit_softcapping
    assert config.sliding_window == theirs.sliding_window


@pytest.mark.parametrize("hidden_size", [64, 80, 640, 1152])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_embeddings_scale_is_rounded_as_transformers_does(
    hidden_size: int, dtype: torch.dtype
) -> None:
    from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

    module = Gemma3TextScaledWordEmbedding(1, 1, 0, embed_scale=hidden_size**0.5).to(dtype)
    with torch.no_grad():
        module.weight.fill_(1)
        want = float(module(torch.zeros(1, dtype=torch.long)))
    name = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]
    assert gemma_embed_scale(hidden_size, name) == want


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_folder_says_how_it_is_rounded(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny = tiny_model("gemma3")
    tiny.model.to(dtype).save_pretrained(tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        want = {torch.float32: float(np.float32(96**0.5)), torch.bfloat16: 9.8125}[dtype]
        assert checkpoint.config.extras.embed_scale == want
        norm = dequantize(checkpoint.tensors["model.norm.weight"])
    stored = tiny.model.state_dict()["model.norm.weight"].float().numpy()
    np.testing.assert_array_equal(norm, stored + 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_activation": "gelu"}, "hidden_activation"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"attention_bias": True}, "attention_bias"),
        ({"sliding_window": None}, "sliding_window"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 26}, "layer_types"),
        ({"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters"),
        ({"rope_parameters": {"full_attention": 3}}, "rope_parameters.full_attention"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling.rope_type"),
        ({"rope_local_base_freq": 0}, "rope_local_base_freq"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"final_logit_softcapping": -1.0}, "final_logit_softcapping"),
        ({"architectures": ["Gemma3ForConditionalGeneration"]}, "architectures"),
        ({"model_type": "gemma3"}, "model_type"),  # with pictures
    ],
)
def test_what_is_not_understood_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelFileError, match=f"config.json: {field}"):
        ours(**changes)


# GGUF's keys.


def gguf_config(dtype: str = "Q8_0", **changes: Any) -> Any:
    values = {
        "block_count": 26, "context_length": 32768, "embedding_length": 1152,
        "feed_forward_length": 6912, "attention.head_count": 4, "attention.head_count_kv": 1,
        "attention.key_length": 256, "attention.value_length": 256,
        "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6,
        "attention.sliding_window": 512, **changes,
    }  # fmt: skip
    metadata = {f"gemma3.{k}": v for k, v in values.items() if v is not None}
    table = Tensor("token_embd.weight", (262144, 1152), dtype, np.zeros(0, np.uint8), "f", 0)
    metadata["general.architecture"] = "gemma3"
    return config_from_gguf("model.gguf", metadata, {"token_embd.weight": table})


def test_a_converters_keys_say_what_the_published_config_says() -> None:
    assert gguf_config() == ours()


def test_what_llama_cpp_takes_for_granted() -> None:
    assert gguf_config("F32").extras.embed_scale == np.float32(1152**0.5)
    assert gguf_config("F16").extras.embed_scale == 34.0
    assert gguf_config(**{"attention.sliding_window": None}).sliding_window is None
    large = {"block_count": 62, "embedding_length": 5376, "attention.head_count": 32}
    assert gguf_config(**large).extras.attention_scale == 168**-0.5
    assert gguf_config(**{"attention.scale": 0.25}).extras.attention_scale == 0.25
    assert gguf_config(final_logit_softcapping=30.0).extras.logit_softcap == 30.0
    assert gguf_config(final_logit_softcapping=0.0).extras.logit_softcap is None
    for pattern in (2, [True, False] * 13):
        extras = gguf_config(**{"attention.sliding_window_pattern": pattern}).extras
        assert extras.full_layers == tuple(range(1, 26, 2))
    scaled = gguf_config(**{"rope.scaling.type": "linear", "rope.scaling.factor": 8.0})
    assert scaled.rope.factors == (8.0,) * 128
    assert scaled.extras.window_rope == RopeConfig(1e4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.sliding_window_pattern", [True]),
        ("attention.sliding_window_pattern", [1, 0] * 13),
        ("attention.sliding_window_pattern", 0),
        ("attention.scale", -1.0),
        ("final_logit_softcapping", "x"),
        ("rope.freq_base_swa", 0.0),
        ("attention.clamp_kqv", 5.0),
    ],
)
def test_keys_that_are_wrong_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match=f"gemma3.{key}"):
        gguf_config(**{key: value})


def test_a_bias_has_no_place(tmp_path: Path) -> None:
    tiny = tiny_model("gemma3")
    path = save_gguf(tiny, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(tmp_path / "bias.gguf", "gemma3")
    for field in reader.fields.values():
        if field.name.startswith("gemma3."):
            kind = field.types[0]
            sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.add_tensor("blk.0.attn_q.bias", np.zeros(128, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match="q_proj.bias: not part of a gemma3 model"):
        open_checkpoint(tmp_path / "bias.gguf")
