"""The GGUF reader: parity with the gguf package on good files, a named refusal for each bad one."""

import os
import struct

import pytest

from firefront.core.errors import ModelFileError
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.gguf import MAX_DEPTH, GGUFFile
from tests.weights.crafted import (
    ARRAY,
    BOOL,
    F32,
    F64,
    GGML,
    I8,
    I16,
    I32,
    I64,
    STRING,
    TINIEST,
    U8,
    U16,
    U32,
    U64,
    RawGGUF,
    gguf_reader,
    tiny_gguf,
)


def open_raw(tmp_path, raw):
    path = tmp_path / "model.gguf"
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return GGUFFile(path)


def refused(tmp_path, raw, match, field=None):
    with pytest.raises(ModelFileError, match=match) as info:
        open_raw(tmp_path, raw)
    assert "model.gguf" in info.value.message
    if field is not None:
        assert info.value.field == field
    return info.value


def one_tensor(dims=(32, 2), number=GGML["Q4_0"], offset=0, data=b"\1" * 36, name="x"):
    return RawGGUF(tensors=[(name, list(dims), number, offset)], data=data)


@pytest.mark.parametrize(
    "model", ["starter_path", pytest.param("qwen_path", marks=pytest.mark.slow)]
)
def test_parity_with_the_gguf_package(model, request):
    path = request.getfixturevalue(model)
    reader = gguf_reader(path)
    file = GGUFFile(path)
    theirs = {name: f.contents() for name, f in reader.fields.items() if "GGUF." not in name}
    assert file.metadata == theirs
    assert len(file.tensors) == len(reader.tensors)
    for stored in reader.tensors:
        tensor = file.tensors[stored.name]
        assert tensor.shape == tuple(reversed(stored.shape.tolist()))
        assert (tensor.dtype, tensor.offset) == (stored.tensor_type.name, stored.data_offset)
        assert tensor.num_bytes == stored.n_bytes
        assert tensor.data[:64].tobytes() == stored.data.reshape(-1).view("u1")[:64].tobytes()
    file.close()


def test_every_value_type_and_version_2(tmp_path):
    values = [
        (U8, 200), (I8, -3), (U16, 60000), (I16, -300), (U32, 1 << 31), (I32, -5), (F32, 0.5),
        (BOOL, 1), (STRING, "é"), (U64, 1 << 63), (I64, -(1 << 62)), (F64, 0.1),
    ]  # fmt: skip
    pairs = [(f"k{kind}", kind, value) for kind, value in values]
    pairs += [(f"a{kind}", ARRAY, (kind, [value, value])) for kind, value in values]
    pairs += [("nested", ARRAY, (ARRAY, [(U8, [1, 2]), (STRING, ["x"])]))]
    file = open_raw(tmp_path, RawGGUF(pairs=pairs, version=2))
    for kind, value in values:
        assert file.metadata[f"k{kind}"] == value
        assert file.metadata[f"a{kind}"] == [value, value]
    assert file.metadata["k7"] is True and file.metadata["a7"] == [True, True]
    assert file.metadata["nested"] == [[1, 2], ["x"]]
    file.close()
    file.close()


def test_data_is_a_read_only_view(tmp_path):
    file = open_raw(tmp_path, one_tensor())
    data = file.tensors["x"].data
    assert not data.flags.owndata and not data.flags.writeable
    file.close()
    assert data.tobytes() == b"\1" * 36  # a view that is still held outlives close()


def two_strings(length: int, content: bytes) -> bytes:
    """An array of "a" and of a string that says it is `length` bytes long."""
    return struct.pack("<IQQ", STRING, 2, 1) + b"a" + struct.pack("<Q", length) + content


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "empty"),
        (RawGGUF(magic=b"GGML"), "not a GGUF file"),
        (RawGGUF(version=1), "version.*1 is not supported"),
        (RawGGUF(version=0x03000000), "big-endian"),
        (RawGGUF(num_tensors=1 << 63), "tensor count.*cannot fit"),
        (RawGGUF(num_pairs=1 << 62), "metadata count.*cannot fit"),
        (RawGGUF(pairs=[("k", U8, 1)], num_pairs=2), "metadata key.*empty"),
        (RawGGUF(pairs=[("k", U8, 1), ("k", U8, 2)]), "k.*twice"),
        (RawGGUF(pairs=[("", U8, 1)]), "metadata key.*empty"),
        (RawGGUF(pairs=[("a\nb", U8, 1)]), "not printable"),
        (RawGGUF(pairs=[(b"\xff\xfe", U8, 1)]), "not UTF-8"),
        (RawGGUF(pairs=[("k", STRING, b"\1\0\0\0\0\0\0\0\xff")]), "k.*not UTF-8"),
        (RawGGUF(pairs=[("k" * 2000, U8, 1)]), "at most 1024"),
        (RawGGUF(pairs=[("k", 13, b"\0")]), "unknown value type 13"),
        (RawGGUF(pairs=[("k", BOOL, 2)]), "bool with value 2"),
        (RawGGUF(pairs=[("k", ARRAY, (BOOL, [0, 3]))]), "bools"),
        (RawGGUF(pairs=[("k", ARRAY, struct.pack("<IQ", 99, 0))]), "unknown array type"),
        (RawGGUF(pairs=[("k", ARRAY, struct.pack("<IQ", U64, 1 << 61))]), "cannot fit"),
        (RawGGUF(pairs=[("k", STRING, struct.pack("<Q", 1 << 40))]), "cannot fit"),
        (RawGGUF(pairs=[("k", ARRAY, two_strings(1, b"\xff"))]), "k at byte 58.*not UTF-8"),
        (RawGGUF(pairs=[("k", ARRAY, two_strings(1 << 40, b"b"))]), "byte 58.*cannot fit"),
        (RawGGUF(pairs=[("k", ARRAY, two_strings(2**64 - 1, b"b"))]), "k.*cannot fit"),
        (RawGGUF(pairs=[("general.alignment", U32, 0)]), "general.alignment.*: 0, expected"),
        (RawGGUF(pairs=[("general.alignment", U32, 48)]), "not a power of two"),
        (RawGGUF(pairs=[("general.alignment", U32, 1 << 31)]), "expected 1 to"),
        (RawGGUF(pairs=[("general.alignment", STRING, "32")]), "general.alignment"),
        (RawGGUF(tensors=[("x", [1], 0, 0)], num_dims=0, data=bytes(64)), "0 dimensions"),
        (one_tensor(dims=(32, 1, 1, 1, 1)), "5 dimensions"),
        (one_tensor(dims=(32, 0)), "dimension 0"),
        (one_tensor(dims=(48, 2)), "multiple of 32"),
        (one_tensor(dims=(1 << 32, 1 << 31)), "more than 2.63 elements"),
        (one_tensor(dims=(1 << 62, 1), number=0), "more than 2.63 bytes"),
        (one_tensor(dims=(1 << 63, 2)), "more than 2.63 elements"),
        (one_tensor(dims=(32, 3)), "incomplete or damaged"),
        (one_tensor(offset=32), "incomplete or damaged"),
        (one_tensor(offset=(1 << 64) - 32), "incomplete or damaged"),
        (one_tensor(offset=1), "not aligned"),
        (one_tensor(number=34), "TQ1_0 is not supported.*Q6_K"),
        (one_tensor(number=24), "I8 is not supported"),
        (one_tensor(number=16), "IQ2_XXS is not supported"),
        (one_tensor(number=39), "MXFP4 is not supported"),
        (one_tensor(number=4), "Q4_2 is not supported"),
        (one_tensor(number=1 << 31), "number 2147483648 is not supported"),
        (one_tensor(name=""), "tensor name.*empty"),
        (
            RawGGUF(tensors=[("x", [4], 0, 0), ("x", [4], 0, 32)], data=bytes(64)),
            "x.*twice",
        ),
        (
            RawGGUF(tensors=[("x", [16], 0, 0), ("y", [16], 0, 32)], data=bytes(96)),
            "overlaps",
        ),
    ],
)
def test_refused(tmp_path, raw, match):
    refused(tmp_path, raw, match)


def test_refusal_names_field_and_byte(tmp_path):
    error = refused(tmp_path, one_tensor(number=34), "TQ1_0", field="x")
    assert error.offset == 24


def test_nesting_is_limited(tmp_path):
    value = (U8, [1])
    for _ in range(MAX_DEPTH - 1):
        value = (ARRAY, [value])
    open_raw(tmp_path, RawGGUF(pairs=[("k", ARRAY, value)])).close()
    refused(tmp_path, RawGGUF(pairs=[("k", ARRAY, (ARRAY, [value]))]), "nested deeper")


def test_arrays_are_limited_together(tmp_path, monkeypatch):
    monkeypatch.setattr("firefront.weights.gguf.MAX_ELEMENTS", 10)
    pairs = [("a", ARRAY, (U8, [1] * 6)), ("b", ARRAY, (U8, [1] * 4))]
    open_raw(tmp_path, RawGGUF(pairs=pairs)).close()
    refused(tmp_path, RawGGUF(pairs=[*pairs, ("c", ARRAY, (U8, [1]))]), "at most 0 are accepted")


def test_long_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("firefront.weights.gguf.MAX_HEADER_BYTES", 60)
    raw = RawGGUF(pairs=[("k", STRING, "x" * 9), ("l", U8, 1)], data=bytes(64))
    refused(tmp_path, raw, "longer than 60 bytes")


def test_any_power_of_two_alignment(tmp_path):
    for alignment in (1, 8, 64, 4096):
        raw = one_tensor()
        raw.alignment = alignment
        raw.pairs = [("general.alignment", U32, alignment)]
        file = open_raw(tmp_path, raw)
        assert file.tensors["x"].offset % alignment == 0
        assert file.tensors["x"].data.tobytes() == b"\1" * 36
        file.close()


def test_not_a_regular_file(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be opened"):
        GGUFFile(tmp_path / "none.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelFileError, match="regular"):
        GGUFFile(tmp_path / "pipe.gguf")


def test_truncation_at_every_byte_is_refused(tmp_path):
    raw = tiny_gguf("llama", "Q4_0", TINIEST)
    padding = len(raw.data) - raw.tensors[-1][3] - 576  # of the last tensor; it may be missing
    path = tmp_path / "model.gguf"
    path.write_bytes(raw.encode())
    GGUFFile(path).close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - padding)
        open_checkpoint(path).close()
        for size in range(path.stat().st_size - 1, -1, -1):
            file.truncate(size)
            with pytest.raises(ModelFileError):
                open_checkpoint(path)
