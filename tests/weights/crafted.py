"""Small model files for the tests: whole ones, and writers that do not mind writing wrong ones.

The raw writers know the two containers only; they share no code with the readers under test.
"""

import functools
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from firefront.weights.layout import hf_name
from firefront.weights.tensor import BLOCK

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_PACK = {
    U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B",
    U64: "<Q", I64: "<q", F64: "<d",
}  # fmt: skip
# Where the float16 scales of a block are, if not at its start alone.
HALVES = {
    "Q4_1": (0, 2),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
GGML = {name: int(gguf.GGMLQuantizationType[name]) for name in BLOCK}


@functools.cache
def gguf_reader(path: Path) -> gguf.GGUFReader:
    """The gguf package's view of a file: the oracle, and slow enough to share."""
    return gguf.GGUFReader(path)


def gguf_string(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind: int, value: Any) -> bytes:
    """A value without its type; an array is (element kind, list)."""
    if kind == STRING:
        return gguf_string(value)
    if kind == ARRAY:
        element, items = value
        body = b"".join(gguf_value(element, item) for item in items)
        return struct.pack("<IQ", element, len(items)) + body
    return struct.pack(_PACK[kind], value)


@dataclass
class RawGGUF:
    """Every field of a GGUF file, free to be wrong. `pairs`: (key, kind, value or raw bytes).

    `tensors`: (name, dims fastest first, type number, offset).
    """

    pairs: list[tuple[str | bytes, int, Any]] = field(default_factory=list)
    tensors: list[tuple[str | bytes, list[int], int, int]] = field(default_factory=list)
    data: bytes = b""
    version: int = 3
    magic: bytes = b"GGUF"
    num_tensors: int | None = None
    num_pairs: int | None = None
    alignment: int = 32
    num_dims: int | None = None

    def encode(self) -> bytes:
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_pairs = len(self.pairs) if self.num_pairs is None else self.num_pairs
        out = self.magic + struct.pack("<IQQ", self.version, num_tensors, num_pairs)
        for key, kind, value in self.pairs:
            body = value if isinstance(value, bytes) else gguf_value(kind, value)
            out += gguf_string(key) + struct.pack("<I", kind) + body
        for name, dims, number, offset in self.tensors:
            num_dims = len(dims) if self.num_dims is None else self.num_dims
            out += gguf_string(name) + struct.pack("<I", num_dims)
            out += b"".join(struct.pack("<Q", dim) for dim in dims)
            out += struct.pack("<IQ", number, offset)
        return out + b"\0" * (-len(out) % self.alignment) + self.data


def random_blocks(rng: np.random.Generator, dtype: str, rows: int, cols: int) -> np.ndarray:
    """Valid stored rows uint8[rows, row bytes]: any bits, but with scales of modest size."""
    block_len, block_bytes = BLOCK[dtype]
    num = rows * cols // block_len
    if dtype in ("F32", "F16"):
        values = rng.normal(size=num).astype(np.float32 if dtype == "F32" else np.float16)
        return values.view(np.uint8).reshape(rows, -1)
    if dtype == "BF16":
        words = rng.normal(size=num).astype(np.float32).view(np.uint32) >> 16
        return words.astype(np.uint16).view(np.uint8).reshape(rows, -1)
    blocks = rng.integers(0, 256, size=(num, block_bytes), dtype=np.uint8)
    for begin in HALVES.get(dtype, (0,)):
        scale = rng.uniform(0.001, 0.02, size=(num, 1)).astype(np.float16)
        blocks[:, begin : begin + 2] = scale.view(np.uint8)
    return blocks.reshape(rows, -1)


@dataclass(frozen=True)
class Tiny:
    """Sizes of a tiny model; hidden and ffn are multiples of 32 (256 for the K formats)."""

    hidden: int = 64
    ffn: int = 96
    layers: int = 2
    q_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    vocab: int = 48

    def shapes(self, arch: str, tied: bool = False) -> dict[str, tuple[int, ...]]:
        """GGUF tensor names and row-major shapes."""
        q, kv = self.q_heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocab, self.hidden),
            "output_norm.weight": (self.hidden,),
        }
        if not tied:
            shapes["output.weight"] = (self.vocab, self.hidden)
        for i in range(self.layers):
            layer: dict[str, tuple[int, ...]] = {
                "attn_norm.weight": (self.hidden,),
                "attn_q.weight": (q, self.hidden),
                "attn_k.weight": (kv, self.hidden),
                "attn_v.weight": (kv, self.hidden),
                "attn_output.weight": (self.hidden, q),
                "ffn_norm.weight": (self.hidden,),
                "ffn_gate.weight": (self.ffn, self.hidden),
                "ffn_up.weight": (self.ffn, self.hidden),
                "ffn_down.weight": (self.hidden, self.ffn),
            }
            if arch == "qwen2":
                layer |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
            if arch == "qwen3":
                layer |= {
                    "attn_q_norm.weight": (self.head_dim,),
                    "attn_k_norm.weight": (self.head_dim,),
                }
            shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
        return shapes

    def pairs(self, arch: str) -> list[tuple[str | bytes, int, Any]]:
        return [
            ("general.architecture", STRING, arch),
            (f"{arch}.block_count", U32, self.layers),
            (f"{arch}.context_length", U32, 128),
            (f"{arch}.embedding_length", U32, self.hidden),
            (f"{arch}.feed_forward_length", U32, self.ffn),
            (f"{arch}.attention.head_count", U32, self.q_heads),
            (f"{arch}.attention.head_count_kv", U32, self.kv_heads),
            (f"{arch}.attention.key_length", U32, self.head_dim),
            (f"{arch}.attention.value_length", U32, self.head_dim),
            (f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5),
            (f"{arch}.rope.freq_base", F32, 10000.0),
        ]


TINIEST = Tiny(hidden=32, ffn=32, layers=1, q_heads=2, kv_heads=1, vocab=8)


def tiny_gguf(
    arch: str = "llama", dtype: str = "Q4_0", size: Tiny | None = None, tied: bool = False
) -> RawGGUF:
    """A whole random model; matrices in `dtype`, norms and biases in F32."""
    size = size or Tiny()
    rng = np.random.default_rng(1)
    raw = RawGGUF(pairs=size.pairs(arch))
    raw.pairs += [
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [f"t{i}" for i in range(6)])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [0.5] * 6)),
        ("tokenizer.ggml.add_bos_token", BOOL, 1),
    ]
    for name, shape in size.shapes(arch, tied).items():
        kind = "F32" if len(shape) == 1 else dtype
        rows, cols = (1, shape[0]) if len(shape) == 1 else shape
        data = random_blocks(rng, kind, rows, cols).tobytes()
        raw.tensors.append((name, list(reversed(shape)), GGML[kind], len(raw.data)))
        raw.data += data + b"\0" * (-len(data) % 32)
    return raw


def safetensors_bytes(
    header: dict[str, Any] | bytes, data: bytes = b"", header_len: int | None = None
) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if header_len is None else header_len
    return length.to_bytes(8, "little") + text + data


def tiny_safetensors() -> bytes:
    """Three small tensors and some metadata."""
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [32, 40]},
    }
    return safetensors_bytes(header, bytes(range(40)))


def hf_config(family: str = "llama", size: Tiny | None = None, **changes: Any) -> dict[str, Any]:
    size = size or Tiny()
    architecture = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    config = {
        "architectures": [architecture.get(family, family) + "ForCausalLM"],
        "model_type": family,
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.q_heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "vocab_size": size.vocab,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    }
    return config | changes


def hf_folder(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A whole random F32 model in one file, written without transformers."""
    header: dict[str, Any] = {}
    data = b""
    rng = np.random.default_rng(2)
    for name, shape in Tiny().shapes("llama" if family == "mistral" else family).items():
        body = rng.normal(size=shape).astype(np.float32).tobytes()
        offsets = [len(data), len(data) + len(body)]
        key = hf_name(name, family)
        assert key is not None
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": offsets}
        data += body
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(family, **changes)))
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header, data))
    return folder
