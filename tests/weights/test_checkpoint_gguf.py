"""open_checkpoint on GGUF: names, config and above all the order of llama's q and k rows."""

import gguf
import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from firefront.core.errors import ModelFileError
from firefront.core.model_config import ModelConfig, RopeConfig
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.config_hf import config_from_hf
from firefront.weights.layout import expected_shapes, llama_row_order
from firefront.weights.quant import dequantize
from tests.weights.crafted import ARRAY, F32, GGML, STRING, U32, Tiny, hf_config, tiny_gguf


def write(tmp_path, raw):
    path = tmp_path / "model.gguf"
    path.write_bytes(raw.encode())
    return path


def refused(tmp_path, raw, match):
    with pytest.raises(ModelFileError, match=match):
        open_checkpoint(write(tmp_path, raw))


def with_pair(raw, key, kind, value):
    raw.pairs = [pair for pair in raw.pairs if pair[0] != key] + [(key, kind, value)]
    return raw


def test_starter(starter_path):
    with open_checkpoint(starter_path) as checkpoint:
        assert checkpoint.kind == "gguf" and checkpoint.path == starter_path
        assert checkpoint.config == ModelConfig(
            family="llama", vocab_size=49152, hidden_dim=576, num_layers=30, num_q_heads=9,
            num_kv_heads=3, head_dim=64, ffn_dim=1536, norm_eps=np.float32(1e-5).item(),
            rope=RopeConfig(theta=100000.0), max_model_len=8192, tie_embeddings=True,
        )  # fmt: skip
        assert checkpoint.tensors.keys() == expected_shapes(checkpoint.config).keys()
        assert checkpoint.metadata["tokenizer.ggml.pre"] == "smollm"
        assert 90e6 < checkpoint.num_bytes < starter_path.stat().st_size


def test_qwen(qwen_path):
    with open_checkpoint(qwen_path) as checkpoint:
        config = checkpoint.config
        assert (config.family, config.qkv_bias, config.tie_embeddings) == ("qwen2", True, False)
        assert (config.num_layers, config.num_q_heads, config.num_kv_heads) == (24, 14, 2)
        assert config.rope == RopeConfig(theta=1e6) and config.sliding_window is None
        assert all(tensor.row_order is None for tensor in checkpoint.tensors.values())
        assert checkpoint.tensors["model.layers.3.self_attn.k_proj.bias"].shape == (128,)


@pytest.mark.parametrize(
    ("arch", "dtype"), [("llama", "Q8_0"), ("qwen2", "Q5_0"), ("qwen3", "F16")]
)
@pytest.mark.parametrize("tied", [False, True])
def test_tiny_families(tmp_path, arch, dtype, tied):
    with open_checkpoint(write(tmp_path, tiny_gguf(arch, dtype, tied=tied))) as checkpoint:
        config = checkpoint.config
        assert (config.family, config.tie_embeddings) == (arch, tied)
        assert config.qkv_bias == (arch == "qwen2")
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        assert shapes == expected_shapes(config)
        permuted = {n for n, t in checkpoint.tensors.items() if t.row_order is not None}
        assert bool(permuted) == (arch == "llama")
        assert all("q_proj" in name or "k_proj" in name for name in permuted)
        for tensor in checkpoint.tensors.values():
            assert np.isfinite(dequantize(tensor)).all()


@pytest.mark.parametrize(("q_heads", "kv_heads", "head_dim"), [(4, 4, 16), (6, 2, 16), (3, 1, 64)])
def test_row_order_is_transformers_own(tmp_path, q_heads, kv_heads, head_dim):
    """Permuted as llama.cpp's converter does it, written by the gguf package, read back true; and
    transformers' own un-permutation of the stored rows gives the same."""
    size = Tiny(q_heads=q_heads, kv_heads=kv_heads, head_dim=head_dim, layers=1)
    rng = np.random.default_rng(7)
    true = {n: rng.normal(size=s).astype(np.float32) for n, s in size.shapes("llama").items()}
    q_bias = rng.normal(size=q_heads * head_dim).astype(np.float32)
    true |= {"blk.0.attn_q.bias": q_bias}
    true |= {f"blk.0.attn_{n}.bias": np.ones(kv_heads * head_dim, np.float32) for n in "kv"}

    path = tmp_path / "permuted.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, kind, value in size.pairs("llama")[1:]:
        (writer.add_uint32 if kind == U32 else writer.add_float32)(key, value)
    for name, weight in true.items():
        heads = {"attn_q": q_heads, "attn_k": kv_heads}.get(name.split(".")[-2])
        stored = weight
        if heads:
            halves = weight.reshape(heads, 2, head_dim // 2, *weight.shape[1:])
            stored = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)
        writer.add_tensor(name, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    processor = LlamaTensorProcessor(
        {"num_attention_heads": q_heads, "num_key_value_heads": kv_heads}
    )
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config.qkv_bias
        for part in ("q", "k"):
            name = f"blk.0.attn_{part}.weight"
            tensor = checkpoint.tensors[f"model.layers.0.self_attn.{part}_proj.weight"]
            assert not np.array_equal(tensor.data.view("<f4").reshape(tensor.shape), true[name])
            assert np.array_equal(dequantize(tensor), true[name])
            stored = tensor.data.view("<f4").reshape(tensor.shape)
            theirs = processor.process(stored.copy(), name).weights
            assert np.array_equal(dequantize(tensor), theirs)
        bias = checkpoint.tensors["model.layers.0.self_attn.q_proj.bias"]
        assert np.array_equal(dequantize(bias), q_bias)
        value = checkpoint.tensors["model.layers.0.self_attn.v_proj.weight"]
        assert np.array_equal(dequantize(value), true["blk.0.attn_v.weight"])


def test_row_order_is_a_permutation_within_heads():
    order = llama_row_order(3, 8)
    assert order.dtype == np.int32 and sorted(order) == list(range(24))
    assert order[:8].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert (order // 8 == np.arange(24) // 8).all()


def test_rope_factors_tensor(tmp_path):
    raw = tiny_gguf()
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    raw.tensors.append(("rope_freqs.weight", [8], GGML["F32"], len(raw.data)))
    raw.data += factors.tobytes()
    with open_checkpoint(write(tmp_path, raw)) as checkpoint:
        assert checkpoint.config.rope.factors == tuple(factors.tolist())
        assert "rope_freqs.weight" not in checkpoint.tensors
    raw.data = raw.data[:-4] + np.float32(np.nan).tobytes()
    refused(tmp_path, raw, "finite and positive")
    raw.tensors[-1] = ("rope_freqs.weight", [4], GGML["F32"], raw.tensors[-1][3])
    refused(tmp_path, raw, "rope_freqs.weight.*expected 8 plain numbers")


def test_rope_linear_and_window(tmp_path):
    raw = with_pair(tiny_gguf(), "llama.rope.scaling.type", STRING, "linear")
    raw = with_pair(raw, "llama.rope.scaling.factor", F32, 4.0)
    raw = with_pair(raw, "llama.attention.sliding_window", U32, 32)
    with open_checkpoint(write(tmp_path, raw)) as checkpoint:
        assert checkpoint.config.rope.factors == (4.0,) * 8
        assert checkpoint.config.sliding_window == 32
    old = with_pair(tiny_gguf(), "llama.rope.scale_linear", F32, 2.0)
    with open_checkpoint(write(tmp_path, old)) as checkpoint:
        assert checkpoint.config.rope.factors == (2.0,) * 8


def test_heads_given_per_layer(tmp_path):
    raw = with_pair(tiny_gguf(), "llama.attention.head_count_kv", ARRAY, (U32, [2, 2]))
    with open_checkpoint(write(tmp_path, raw)) as checkpoint:
        assert checkpoint.config.num_kv_heads == 2
    refused(
        tmp_path,
        with_pair(tiny_gguf(), "llama.attention.head_count_kv", ARRAY, (U32, [2, 4])),
        "head_count_kv",
    )


@pytest.mark.parametrize(
    ("key", "kind", "value", "match"),
    [
        ("general.architecture", STRING, "mamba", "'mamba' is not supported, .*llama"),
        ("general.architecture", U32, 3, "expected text"),
        ("llama.block_count", U32, 0, "block_count: 0, expected 1"),
        ("llama.block_count", U32, 3, "blk|layers.2.*missing.*8 more"),
        ("llama.block_count", U32, 1, "layers.1.*not part of"),
        ("llama.block_count", U32, 1 << 31, "block_count"),
        ("llama.block_count", F32, 2.0, "whole number"),
        ("llama.attention.head_count", U32, 3, "cannot be shared|shape"),
        ("llama.attention.head_count_kv", U32, 0, "head_count_kv"),
        ("llama.attention.key_length", U32, 15, "value_length"),
        ("llama.attention.value_length", U32, 8, "value_length"),
        ("llama.rope.dimension_count", U32, 8, "dimension_count"),
        ("llama.embedding_length", U32, 128, "shape"),
        ("llama.feed_forward_length", U32, 64, "gate_proj.*shape|shape"),
        ("llama.attention.layer_norm_rms_epsilon", F32, float("nan"), "epsilon"),
        ("llama.attention.layer_norm_rms_epsilon", F32, -1.0, "epsilon"),
        ("llama.rope.freq_base", F32, float("inf"), "freq_base"),
        ("llama.rope.scaling.type", STRING, "yarn", "'yarn' is not supported, none and linear"),
        ("llama.expert_count", U32, 8, "expert_count"),
        ("llama.attention.scale", F32, 0.5, "attention.scale"),
        ("split.count", U32, 2, "split over several files"),
        ("llama.context_length", U32, 0, "context_length"),
    ],
)
def test_refused_settings(tmp_path, key, kind, value, match):
    refused(tmp_path, with_pair(tiny_gguf(), key, kind, value), match)


def test_refused_tensors(tmp_path):
    raw = tiny_gguf()
    raw.tensors = [t for t in raw.tensors if t[0] != "blk.1.ffn_up.weight"]
    refused(tmp_path, raw, "model.layers.1.mlp.up_proj.weight: tensor is missing")

    raw = tiny_gguf()
    raw.tensors.append(("blk.0.attn_output.bias", [64], GGML["F32"], len(raw.data)))
    raw.data += bytes(256)
    refused(tmp_path, raw, "self_attn.o_proj.bias: not part of")

    raw = tiny_gguf()
    raw.tensors.append(("blk.00.attn_q.weight", [64, 64], GGML["F32"], len(raw.data)))
    raw.data += bytes(4 * 64 * 64)
    refused(tmp_path, raw, "blk.00.attn_q.weight: no llama model")

    raw = tiny_gguf()
    norm = next(i for i, t in enumerate(raw.tensors) if t[0] == "output_norm.weight")
    raw.tensors[norm] = ("output_norm.weight", [64], GGML["Q8_0"], raw.tensors[norm][3])
    refused(tmp_path, raw, "norm or bias in Q8_0")

    raw = tiny_gguf()
    raw.tensors = [t for t in raw.tensors if t[0] != "token_embd.weight"]
    refused(tmp_path, raw, "token_embd.weight: tensor is missing")


def test_k_quants_open_and_decode(tmp_path):
    size = Tiny(hidden=256, ffn=256, head_dim=64, layers=1)
    for dtype in ("Q4_K", "Q5_K", "Q6_K"):
        with open_checkpoint(write(tmp_path, tiny_gguf("llama", dtype, size))) as checkpoint:
            down = checkpoint.tensors["model.layers.0.mlp.down_proj.weight"]
            assert down.dtype == dtype and dequantize(down).shape == (256, 256)


def test_llama3_factors_match_transformers(tmp_path):
    scaling = {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    size = Tiny(head_dim=64)
    ours = config_from_hf(
        "config.json", hf_config(size=size, rope_theta=500000.0, rope_scaling=scaling), True
    )
    theirs = LlamaConfig(
        hidden_size=256, num_attention_heads=4, max_position_embeddings=131072,
        rope_parameters={"rope_theta": 500000.0, **scaling},
    )  # fmt: skip
    inv_freq, attention_factor = ROPE_INIT_FUNCTIONS["llama3"](theirs, "cpu")
    assert attention_factor == 1.0 and ours.rope.theta == 500000.0
    plain = 500000.0 ** (-np.arange(0, 64, 2) / 64)
    assert np.allclose(plain / np.array(ours.rope.factors), inv_freq.numpy(), rtol=2e-6)
    # untouched, blended and stretched frequencies are all there
    assert ours.rope.factors[0] == 1.0 and ours.rope.factors[-1] == pytest.approx(32.0)
    assert any(1.0 < factor < 32.0 for factor in ours.rope.factors)
