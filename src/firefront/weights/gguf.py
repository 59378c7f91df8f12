"""GGUF version 2 and 3: metadata and tensor table of a mapped file, checked before use.

Owns the container only: it knows no architecture and decodes no weights.
Invariant: nothing is allocated, and no offset followed, before it is bounded by the bytes that are
really there; every refusal is a ModelFileError naming the field and the byte.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from firefront.core.errors import ModelFileError
from firefront.weights.tensor import BLOCK, MAX_DIMS, MappedFile, Tensor, tensor_bytes

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20
MAX_HEADER_BYTES = 256 << 20  # metadata and tensor table together
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_NAME_BYTES = 1 << 10
MAX_STRING_BYTES = 16 << 20
MAX_ELEMENTS = 1 << 23  # of all metadata arrays together
MAX_DEPTH = 3  # arrays in arrays

MIN_KEY_BYTES = 8 + 4 + 1  # an empty key, its type, a bool
MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8  # an empty name, one dimension

_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),  # bool
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]

# Every type number that ggml ever gave out, so that a refusal can say what the file holds.
# fmt: off
_DTYPES = (
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1",
    "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
    "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4",
    "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",
    "NVFP4", "Q1_0",
)
# fmt: on
DTYPE_NUMBERS = {name: number for number, name in enumerate(_DTYPES)}

SUPPORTED = tuple(dtype for dtype in BLOCK if dtype != "I8")  # GGUF has no scales for I8


class GGUFFile:
    """A parsed GGUF file. `tensors` by the file's own names, shapes row-major; `metadata` by key,
    `key_bytes` the same as they lie in the file, each with its key.

    Metadata values are int, float, bool, str, or lists of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapped = MappedFile(path)
        try:
            header = _Header(self._mapped)
            self.version = header.version
            self.metadata = header.metadata
            self.key_bytes = header.key_bytes
            self.alignment = header.alignment
            self.tensors = header.tensors
        except BaseException:
            self._mapped.close()
            raise

    def close(self) -> None:
        self.tensors, self.key_bytes = {}, {}
        self._mapped.close()


class _Header:
    """One pass over the header: a position, a limit, and what has been read so far."""

    def __init__(self, mapped: MappedFile) -> None:
        self.mapped = mapped
        self.file = str(mapped.path)
        self.view = mapped.map
        self.pos = 0
        self.limit = min(mapped.size, MAX_HEADER_BYTES)
        self.num_elements = 0
        self.metadata: dict[str, Any] = {}
        self.key_bytes: dict[str, memoryview] = {}
        self.tensors: dict[str, Tensor] = {}

        num_tensors, num_keys = self._preamble()
        for _ in range(num_keys):
            self._key_value()
        self.alignment = self._alignment()
        self._tensor_table(num_tensors)

    def refuse(self, field: str, problem: str, offset: int | None = None) -> ModelFileError:
        return ModelFileError(
            self.file, field, problem, offset=self.pos if offset is None else offset
        )

    def take(self, num_bytes: int, field: str) -> int:
        """Step over `num_bytes` and return where they start; refuse if they are not all there."""
        start = self.pos
        if num_bytes > self.limit - start:
            if self.limit < self.mapped.size:
                raise self.refuse(field, f"header is longer than {MAX_HEADER_BYTES} bytes")
            raise self.refuse(field, f"needs {num_bytes} bytes, {self.limit - start} are left")
        self.pos = start + num_bytes
        return start

    def scalar(self, layout: struct.Struct, field: str) -> Any:
        return layout.unpack_from(self.view, self.take(layout.size, field))[0]

    def count(self, field: str, min_bytes: int, cap: int) -> int:
        """Read a u64 count whose every element takes at least `min_bytes` of what is left."""
        start = self.pos
        count = int(self.scalar(_U64, field))
        if count > (self.limit - self.pos) // min_bytes:
            raise self.refuse(
                field,
                f"{count} entries cannot fit into the {self.limit - self.pos} bytes left",
                start,
            )
        if count > cap:
            raise self.refuse(field, f"{count} entries, at most {cap} are accepted", start)
        return count

    def string(self, field: str, cap: int) -> str:
        start = self.pos
        length = self.count(f"{field} (string length)", 1, cap)
        begin = self.take(length, field)
        try:
            return self.view[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse(field, f"text is not UTF-8: {error.reason}", start) from None

    def _check_name(self, field: str, name: str, start: int) -> None:
        """Names end up in messages and logs: no control characters."""
        if not name.isprintable() or not name:
            raise self.refuse(field, f"{name[:60]!r} is empty or not printable", start)

    def _preamble(self) -> tuple[int, int]:
        begin = self.take(4, "magic")
        if (magic := self.view[begin : begin + 4]) != MAGIC:
            raise self.refuse("magic", f"{magic!r}: this is not a GGUF file", 0)
        self.version = int(self.scalar(_U32, "version"))
        if self.version not in VERSIONS:
            if int.from_bytes(self.version.to_bytes(4, "little"), "big") in (1, *VERSIONS):
                raise self.refuse("version", "big-endian file; convert it to little-endian GGUF", 4)
            raise self.refuse("version", f"{self.version} is not supported, 2 and 3 are", 4)
        num_tensors = self.count("tensor count", MIN_TENSOR_BYTES, MAX_TENSORS)
        num_keys = self.count("metadata count", MIN_KEY_BYTES, MAX_KEYS)
        return num_tensors, num_keys

    def _key_value(self) -> None:
        start = self.pos
        key = self.string("metadata key", MAX_NAME_BYTES)
        self._check_name("metadata key", key, start)
        if key in self.metadata:
            raise self.refuse(key, "key appears twice", start)
        self.metadata[key] = self._value(int(self.scalar(_U32, key)), key, 0)
        self.key_bytes[key] = self.mapped.data.data[start : self.pos]

    def _value(self, kind: int, key: str, depth: int) -> Any:
        if kind == _STRING:
            return self.string(key, MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self._array(key, depth + 1)
        if (layout := _SCALARS.get(kind)) is None:
            raise self.refuse(key, f"unknown value type {kind}", self.pos - 4)
        start = self.pos
        value = self.scalar(layout, key)
        if kind == _BOOL:
            if value > 1:
                raise self.refuse(key, f"bool with value {value}", start)
            return bool(value)
        return value

    def _array(self, key: str, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise self.refuse(key, f"arrays nested deeper than {MAX_DEPTH}")
        start = self.pos
        kind = int(self.scalar(_U32, key))
        layout = _SCALARS.get(kind)
        if layout is None and kind not in (_STRING, _ARRAY):
            raise self.refuse(key, f"unknown array type {kind}", start)
        min_bytes = layout.size if layout else 8 if kind == _STRING else 12
        count = self.count(f"{key} (array length)", min_bytes, MAX_ELEMENTS - self.num_elements)
        self.num_elements += count
        if kind == _STRING:
            return self._strings(key, count)
        if layout is None:
            return [self._array(key, depth + 1) for _ in range(count)]
        begin = self.take(count * layout.size, key)
        numbers = np.frombuffer(self.view, np.dtype(layout.format), count, begin)
        if kind == _BOOL:
            if (numbers > 1).any():
                raise self.refuse(key, "array of bools with other values", begin)
            numbers = numbers.astype(np.bool_)
        values: list[Any] = numbers.tolist()
        return values

    def _strings(self, key: str, count: int) -> list[str]:
        """As many calls of `string`, the usual case written out: vocabularies have 300,000."""
        unpack, view, limit, pos = _U64.unpack_from, self.view, self.limit, self.pos
        texts: list[str] = []
        try:
            for _ in range(count):
                (length,) = unpack(view, pos)
                end = pos + 8 + length
                if end > limit or length > MAX_STRING_BYTES:
                    break
                texts.append(view[pos + 8 : end].decode())
                pos = end
        except (struct.error, UnicodeDecodeError):
            pass
        self.pos = pos
        while len(texts) < count:  # says what is wrong
            texts.append(self.string(key, MAX_STRING_BYTES))
        return texts

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT:
            raise self.refuse("general.alignment", f"{alignment!r}, expected 1 to {MAX_ALIGNMENT}")
        if alignment & (alignment - 1):
            raise self.refuse("general.alignment", f"{alignment} is not a power of two")
        return alignment

    def _tensor_table(self, num_tensors: int) -> None:
        if num_tensors > (self.limit - self.pos) // MIN_TENSOR_BYTES:
            raise self.refuse("tensor count", f"{num_tensors} entries cannot fit into what is left")
        entries: dict[str, tuple[tuple[int, ...], str, int, int, int]] = {}
        for _ in range(num_tensors):
            start = self.pos
            name = self.string("tensor name", MAX_NAME_BYTES)
            self._check_name("tensor name", name, start)
            if name in entries:
                raise self.refuse(name, "tensor appears twice", start)
            entries[name] = self._tensor_entry(name, start)
        data_start = -(-self.pos // self.alignment) * self.alignment
        self._place(entries, data_start)

    def _tensor_entry(self, name: str, start: int) -> tuple[tuple[int, ...], str, int, int, int]:
        num_dims = int(self.scalar(_U32, name))
        if not 1 <= num_dims <= MAX_DIMS:
            raise self.refuse(name, f"{num_dims} dimensions, expected 1 to {MAX_DIMS}", start)
        dims = [int(self.scalar(_U64, name)) for _ in range(num_dims)]
        number = int(self.scalar(_U32, name))
        offset = int(self.scalar(_U64, name))
        dtype = _DTYPES[number] if number < len(_DTYPES) else f"number {number}"
        if dtype not in SUPPORTED:
            raise self.refuse(
                name,
                f"weight type {dtype} is not supported, these are: {', '.join(SUPPORTED)}",
                start,
            )
        if offset % self.alignment:
            raise self.refuse(
                name, f"data offset {offset} is not aligned to {self.alignment}", start
            )
        shape = tuple(reversed(dims))
        num_bytes = tensor_bytes(self.file, name, dtype, shape, offset=start)
        return shape, dtype, offset, num_bytes, start

    def _place(
        self, entries: dict[str, tuple[tuple[int, ...], str, int, int, int]], data_start: int
    ) -> None:
        """Turn the table into tensors once every one lies inside the file and none overlaps."""
        data_bytes = self.mapped.size - data_start
        end = 0
        for name, (_, _, offset, num_bytes, start) in sorted(
            entries.items(), key=lambda item: item[1][2]
        ):
            if offset > data_bytes or num_bytes > data_bytes - offset:
                raise self.refuse(
                    name,
                    f"needs bytes {data_start + offset} to {data_start + offset + num_bytes}, the "
                    f"file has {self.mapped.size}: it is incomplete or damaged",
                    start,
                )
            if offset < end:
                raise self.refuse(name, "overlaps another tensor's data", start)
            end = offset + num_bytes
        for name, (shape, dtype, offset, num_bytes, _) in entries.items():
            begin = data_start + offset
            data = self.mapped.data[begin : begin + num_bytes]
            self.tensors[name] = Tensor(name, shape, dtype, data, self.file, begin)
