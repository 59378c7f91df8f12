"""The safetensors reader: parity with the safetensors package, and a refusal for each bad file."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from firefront.core.errors import ModelFileError
from firefront.weights.quant import dequantize
from firefront.weights.safetensors import SafetensorsFile, open_safetensors, parse_json
from tests.weights.crafted import safetensors_bytes, tiny_safetensors

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def open_bytes(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return SafetensorsFile(path)


def test_parity_with_the_safetensors_package(tmp_path):
    rng = np.random.default_rng(8)
    arrays = {
        "a": rng.normal(size=(3, 5)).astype(np.float32),
        "b.c": rng.normal(size=(7,)).astype(np.float16),
    }
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "model.safetensors")
    assert file.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        tensor = file.tensors[name]
        assert tensor.shape == array.shape
        assert np.array_equal(dequantize(tensor), array.astype(np.float32))
    file.close()


def entry(**changes):
    return safetensors_bytes({"a": ENTRY | changes}, bytes(8))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"\x08\0\0", "header length.*needs 8 bytes"),
        (safetensors_bytes({"a": ENTRY}, bytes(8), header_len=1 << 63), "header length"),
        (safetensors_bytes({"a": ENTRY}, bytes(8), header_len=1 << 20), "header length"),
        (safetensors_bytes(b"{", b""), "not valid JSON"),
        (safetensors_bytes(b"[]", b""), "expected a JSON object"),
        (safetensors_bytes(b'{"a": NaN}', b""), "NaN is not JSON"),
        (safetensors_bytes(b'{"a": 1, "a": 1}', b""), "twice"),
        (safetensors_bytes(b'{"\xff": 1}', b""), "not valid JSON"),
        (safetensors_bytes(b'{"a":' + b"[" * 100_000, b""), "nested too deeply"),
        (safetensors_bytes(b'{"a": ' + b"9" * 5000 + b"}", b""), "not valid JSON"),
        (safetensors_bytes({"__metadata__": {"a": 1}}), "__metadata__"),
        (safetensors_bytes({"__metadata__": []}), "__metadata__"),
        (safetensors_bytes({"a": 5}), "expected dtype, shape"),
        (safetensors_bytes({"a": {"dtype": "F32"}}), "expected dtype, shape"),
        (entry(more=1), "expected dtype, shape"),
        (safetensors_bytes({"": ENTRY}, bytes(8)), "tensor name"),
        (safetensors_bytes({"a\ud800": ENTRY}, bytes(8)), "not printable"),
        (entry(dtype="F8_E4M3"), "'F8_E4M3' is not supported, .*BF16"),
        (entry(dtype="Q4_0"), "'Q4_0' is not supported"),
        (entry(dtype=["F32"]), "is not supported"),
        (entry(shape=[]), "0 dimensions"),
        (entry(shape=[1] * 5), "5 dimensions"),
        (entry(shape=[0]), "dimension 0"),
        (entry(shape=[-2]), "dimension -2"),
        (entry(shape=[1 << 62, 1 << 62]), "more than 2.63"),
        (entry(shape=[True, 2]), "whole numbers"),
        (entry(shape=[2.0]), "whole numbers"),
        (entry(shape="2"), "whole numbers"),
        (entry(data_offsets=[0]), "whole numbers"),
        (entry(data_offsets=[0, 4]), "do not hold 8 bytes"),
        (entry(data_offsets=[-8, 0]), "do not hold"),
        (entry(data_offsets=[4, 12]), "gap"),
        (safetensors_bytes({"a": ENTRY}, bytes(7)), "describes 8 bytes, the file has 7"),
        (safetensors_bytes({"a": ENTRY}, bytes(9)), "describes 8 bytes, the file has 9"),
        (safetensors_bytes({"a": ENTRY, "b": ENTRY}, bytes(8)), "overlaps"),
        (
            safetensors_bytes({"a": ENTRY, "b": ENTRY | {"data_offsets": [12, 20]}}, bytes(20)),
            "gap",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_refused(tmp_path, content, match):
    with pytest.raises(ModelFileError, match=match) as info:
        open_bytes(tmp_path, content)
    info.value.message.encode()  # no lone surrogate reaches a log or a response


def test_truncation_at_every_byte_is_refused(tmp_path):
    whole = tiny_safetensors()
    open_bytes(tmp_path, whole).close()
    for size in range(len(whole)):
        with pytest.raises(ModelFileError):
            open_bytes(tmp_path, whole[:size])


def sharded(tmp_path, weight_map, **shards):
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (tmp_path / "model.safetensors.index.json").write_text(index)
    return tmp_path


ONE = np.ones(2, np.float32)


def test_shards_are_joined(tmp_path):
    folder = sharded(
        tmp_path,
        {"a": "x.safetensors", "b": "y.safetensors", "c": "x.safetensors"},
        x={"a": ONE, "c": ONE * 3},
        y={"b": ONE * 2},
    )
    tensors, files = open_safetensors(folder)
    assert {name: dequantize(t)[0] for name, t in tensors.items()} == {"a": 1, "b": 2, "c": 3}
    assert len(files) == 2
    for file in files:
        file.close()


@pytest.mark.parametrize(
    ("weight_map", "match"),
    [
        ({"a": "../x.safetensors"}, "plain name"),
        ({"a": "/etc/x.safetensors"}, "plain name"),
        ({"a": "sub/x.safetensors"}, "plain name"),
        ({"a": "..\\x.safetensors"}, "plain name"),
        ({"a": "C:x.safetensors"}, "plain name"),
        ({"a": "x.safetensors\0"}, "plain name"),
        ({"a": ".safetensors"}, "plain name"),
        ({"a": "x.bin"}, "plain name"),
        ({"a": 3}, "plain name"),
        ({}, "weight_map"),
        ([], "weight_map"),
        ({"a": "z.safetensors"}, "cannot be opened"),
        ({"a": "x.safetensors", "d": "x.safetensors"}, "d: .*promises it"),
        ({"a": "x.safetensors"}, "c: .*not listed"),
    ],
)
def test_bad_index(tmp_path, weight_map, match):
    folder = sharded(tmp_path, weight_map, x={"a": ONE, "c": ONE})
    with pytest.raises(ModelFileError, match=match):
        open_safetensors(folder)


def test_index_is_strict_json(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}'
    )
    with pytest.raises(ModelFileError, match="twice"):
        open_safetensors(tmp_path)


def test_no_weights(tmp_path):
    with pytest.raises(ModelFileError, match=r"neither model.safetensors nor"):
        open_safetensors(tmp_path)


def test_parse_json_takes_good_json():
    assert parse_json("f", "x", b'{"a": [1, 2.5, null, "\xc3\xa9"]}  ') == {
        "a": [1, 2.5, None, "é"]
    }
