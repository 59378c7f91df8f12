"""Checkpoints of random blocks in any format, in memory: what a model file would give.

Block bytes are random and scales are set so that a matrix keeps a vector's size; the reference
weights are those that `weights.quant` reads from the very same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from firefront.core.model_config import ModelConfig, RopeConfig
from firefront.models import trace_model
from firefront.weights.quant import dequantize
from firefront.weights.tensor import BLOCK, FLOATS, Tensor

# dtype -> byte offsets of the float16 scales in a block, the scale of minimums after that of values
SCALES = {
    "I8": (),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
CONFIG = ModelConfig(
    family="qwen2",
    vocab_size=203,
    hidden_dim=256,
    num_layers=2,
    num_q_heads=8,
    num_kv_heads=2,
    head_dim=32,
    ffn_dim=512,
    norm_eps=1e-5,
    rope=RopeConfig(theta=500.0),
    max_model_len=4096,
    qkv_bias=True,
)


@dataclass(frozen=True)
class RandomCheckpoint:
    config: ModelConfig
    tensors: Mapping[str, Tensor]

    def load(self, name: str):
        return dequantize(self.tensors[name])

    def is_quantised(self, name: str) -> bool:
        return self.tensors[name].dtype not in FLOATS


def random_tensor(
    name: str, shape: tuple[int, ...], dtype: str, rng: np.random.Generator, size: float
) -> Tensor:
    """Values with a deviation of about `size`."""
    if dtype in FLOATS:
        values = (rng.standard_normal(shape) * size).astype(np.float32)
        raw = values.view(np.uint32) >> 16 if dtype == "BF16" else values
        stored = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[dtype]
        data = raw.astype(stored).reshape(-1).view(np.uint8)
    elif dtype == "I8":
        data = rng.integers(0, 256, int(np.prod(shape)), np.uint8)
        scales = (rng.uniform(0.5, 1.5, shape[0]) * size / 74).astype(np.float32)
        return Tensor(name, shape, dtype, data, "random", 0, None, scales)
    else:
        elements, num_bytes = BLOCK[dtype]
        blocks = int(np.prod(shape)) // elements
        data_BN = rng.integers(0, 256, (blocks, num_bytes), np.uint8)
        for index, offset in enumerate(SCALES[dtype]):
            scale = rng.uniform(0.5, 1.5, blocks) * (-0.4 if index else 1.0)
            if dtype.endswith("_K") and index:
                scale = -scale
            data_BN[:, offset : offset + 2] = scale.astype(np.float16)[:, None].view(np.uint8)
        data = data_BN.reshape(-1)
        tensor = Tensor(name, shape, dtype, data, "random", 0)
        factor = size / float(dequantize(tensor).std())
        for offset in SCALES[dtype]:
            half = data_BN[:, offset : offset + 2].copy().view(np.float16) * np.float16(factor)
            data_BN[:, offset : offset + 2] = half.view(np.uint8)
    return Tensor(name, shape, dtype, np.ascontiguousarray(data), "random", 0)


def random_checkpoint(
    dtypes: tuple[str, ...], seed: int = 0, config: ModelConfig = CONFIG
) -> RandomCheckpoint:
    """Matrices take the dtypes in turn; vectors are F32, q and k rows are stored shuffled."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Tensor] = {}
    for weight in trace_model(config).weights:
        for name, rows in weight.parts:
            if len(weight.shape) == 1:
                size = 1.0 if name.endswith("bias") else 0.2
                tensor = random_tensor(name, (rows,), "F32", rng, size)
                if not name.endswith("bias"):
                    tensor = Tensor(
                        name, (rows,), "F32",
                        (tensor.data.view(np.float32) + 1).view(np.uint8), "random", 0,
                    )  # fmt: skip
            else:
                gain = 3.0 if "embed" in name or "lm_head" in name else 1.0
                shape = (rows, weight.shape[1])
                dtype = dtypes[len(tensors) % len(dtypes)]
                tensor = random_tensor(name, shape, dtype, rng, gain / shape[1] ** 0.5)
                if "q_proj" in name or "k_proj" in name:
                    order = rng.permutation(rows).astype(np.int32)
                    tensor = replace(tensor, row_order=order)
            tensors[name] = tensor
    return RandomCheckpoint(config, tensors)
