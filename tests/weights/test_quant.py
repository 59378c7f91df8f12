"""Dequantisation, bit for bit against ggml's own reference in Python."""

import gguf
import numpy as np
import pytest

from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.quant import BLOCK, dequantize, dequantize_rows
from firefront.weights.tensor import Tensor
from tests.weights.crafted import gguf_reader, random_blocks

ROWS = 24
GGML_TYPES = [dtype for dtype in BLOCK if dtype != "I8"]


def tensor_of(rng, dtype, rows=ROWS, blocks=3, row_order=None):
    cols = blocks * BLOCK[dtype][0]
    data = random_blocks(rng, dtype, rows, cols)
    return Tensor("t", (rows, cols), dtype, data.reshape(-1), "file", 0, row_order), data


@pytest.mark.parametrize("dtype", GGML_TYPES)
def test_bit_exact_on_random_blocks(dtype):
    tensor, data = tensor_of(np.random.default_rng(3), dtype)
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[dtype])
    values = dequantize(tensor)
    assert values.shape == tensor.shape and values.dtype == np.float32
    assert np.array_equal(values.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("dtype", GGML_TYPES)
def test_any_bits_decode_alike(dtype):
    """Scales may be infinite, NaN or denormal: values still agree, NaN for NaN."""
    rng = np.random.default_rng(4)
    cols = 2 * BLOCK[dtype][0]
    row_bytes = 2 * BLOCK[dtype][1]
    data = rng.integers(0, 256, size=(256, row_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[dtype])
    values = dequantize(Tensor("t", (256, cols), dtype, data.reshape(-1), "file", 0))
    same = (values.view(np.uint32) == expected.view(np.uint32)) | np.isnan(values)
    assert same.all() and np.array_equal(np.isnan(values), np.isnan(expected))


@pytest.mark.parametrize("dtype", GGML_TYPES)
def test_block_table_is_ggmls(dtype):
    assert BLOCK[dtype] == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]


def test_int8_rows_have_a_scale_each():
    rng = np.random.default_rng(7)
    weights = rng.integers(-128, 128, (ROWS, 5), np.int8)
    scales = rng.uniform(0.5, 2, ROWS).astype(np.float32)
    order = rng.permutation(ROWS).astype(np.int32)
    data = weights.view(np.uint8).reshape(-1)
    tensor = Tensor("t", (ROWS, 5), "I8", data, "file", 0, order, scales)
    stored = weights.astype(np.float32) * scales[:, None]
    assert np.array_equal(dequantize(tensor), stored[order])
    assert tensor.num_bytes == ROWS * 9


def test_rows_in_true_order():
    rng = np.random.default_rng(5)
    order = rng.permutation(ROWS).astype(np.int32)
    tensor, data = tensor_of(rng, "Q4_K", row_order=order)
    stored = gguf.quants.dequantize(data, gguf.GGMLQuantizationType.Q4_K)
    assert np.array_equal(dequantize(tensor), stored[order])
    ids = np.array([7, 0, 23, 7])
    assert np.array_equal(dequantize_rows(tensor, ids), stored[order][ids])
    assert dequantize_rows(tensor, np.array([], dtype=np.int64)).shape == (0, tensor.shape[1])


@pytest.mark.parametrize("row_id", [-1, ROWS])
def test_row_outside_is_an_error(row_id):
    tensor, _ = tensor_of(np.random.default_rng(6), "Q8_0")
    with pytest.raises(IndexError, match="row ids"):
        dequantize_rows(tensor, np.array([row_id]))


def test_one_dimension_with_order():
    values = np.arange(6, dtype=np.float32)
    order = np.array([5, 0, 4, 1, 3, 2], dtype=np.int32)
    tensor = Tensor("b", (6,), "F32", values.view(np.uint8), "file", 0, order)
    assert dequantize(tensor).tolist() == [5, 0, 4, 1, 3, 2]


@pytest.mark.parametrize("model", ["starter_path", "qwen_path"])
def test_real_model_bit_exact(model, request):
    path = request.getfixturevalue(model)
    reader = {tensor.name: tensor for tensor in gguf_reader(path).tensors}
    with open_checkpoint(path) as checkpoint:
        seen = set()
        for tensor in checkpoint.tensors.values():
            stored = next(t for t in reader.values() if t.data_offset == tensor.offset)
            key = (tensor.dtype, tensor.row_order is None)
            if key in seen or tensor.num_bytes > 4 << 20:
                continue  # one of each kind; a file has hundreds
            seen.add(key)
            expected = gguf.quants.dequantize(stored.data, stored.tensor_type)
            if tensor.row_order is not None:
                expected = expected[tensor.row_order]
            assert np.array_equal(dequantize(tensor), expected), tensor.name
        assert len(seen) >= 3
