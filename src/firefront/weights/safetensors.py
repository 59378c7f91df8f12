"""safetensors: the tensor table of a mapped file, and the shards of a folder, checked before use.

Owns the container only; knows no architecture. Reads no other format: a pickle or an archive under
this name is refused by its content, and nothing in this package can unpickle.
Invariant: the tensors' ranges cover the data part exactly, without gap or overlap.
"""

import json
from pathlib import Path
from typing import Any

from firefront.core.errors import ModelFileError
from firefront.weights.tensor import MappedFile, Tensor, tensor_bytes

MAX_HEADER_BYTES = 16 << 20
MAX_INDEX_BYTES = 64 << 20
MAX_SHARDS = 1 << 10
MAX_NAME_LEN = 1 << 10

DTYPES = ("F32", "F16", "BF16", "I8")
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class SafetensorsFile:
    """A parsed file: `tensors` by name. ModelFileError for anything not exactly right."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapped = MappedFile(path)
        try:
            self.tensors = _tensors(self._mapped)
        except BaseException:
            self._mapped.close()
            raise

    def close(self) -> None:
        self.tensors = {}
        self._mapped.close()


def parse_json(file: object, field: str, text: bytes, offset: int | None = None) -> dict[str, Any]:
    """A strict JSON object: UTF-8, no duplicate keys, no NaN or Infinity, bounded depth."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key appears twice in one object")
        return result

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except RecursionError:
        raise ModelFileError(file, field, "nested too deeply", offset=offset) from None
    except ValueError as error:
        raise ModelFileError(file, field, f"not valid JSON: {error}", offset=offset) from None
    if not isinstance(value, dict):
        raise ModelFileError(file, field, "expected a JSON object", offset=offset)
    return value


def open_safetensors(folder: Path) -> tuple[dict[str, Tensor], list[SafetensorsFile]]:
    """All tensors of a Hugging Face folder, of one file or of an index's shards; files to close."""
    single, index = folder / SINGLE, folder / INDEX
    if single.exists():
        file = SafetensorsFile(single)
        return dict(file.tensors), [file]
    if not index.exists():
        raise ModelFileError(folder, SINGLE, f"the folder has neither {SINGLE} nor {INDEX}")
    shards = _read_index(index)
    tensors: dict[str, Tensor] = {}
    files: list[SafetensorsFile] = []
    try:
        for shard, names in shards.items():
            file = SafetensorsFile(folder / shard)
            files.append(file)
            if missing := sorted(names - file.tensors.keys()):
                raise ModelFileError(
                    file.path, missing[0], f"{INDEX} promises it, the shard lacks it"
                )
            if extra := sorted(file.tensors.keys() - names):
                raise ModelFileError(file.path, extra[0], f"tensor is not listed here by {INDEX}")
            tensors.update(file.tensors)
    except BaseException:
        for file in files:
            file.close()
        raise
    return tensors, files


def _read_index(path: Path) -> dict[str, set[str]]:
    """Shard name to the names of its tensors. Shards are plain names inside the index's folder."""
    weight_map = read_json(path, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(path, "weight_map", "expected an object of tensor name to shard name")
    shards: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        plain = isinstance(shard, str) and not set(shard) & set("/\\\0:")
        if not plain or shard.startswith(".") or not shard.endswith(".safetensors"):
            raise ModelFileError(
                path,
                "weight_map",
                f"{str(shard)[:80]!r} is not the plain name of a .safetensors file",
            )
        _check_name(path, name)
        shards.setdefault(shard, set()).add(name)
    if len(shards) > MAX_SHARDS:
        raise ModelFileError(path, "weight_map", f"{len(shards)} shards, at most {MAX_SHARDS}")
    return shards


def read_json(path: Path, max_bytes: int) -> dict[str, Any]:
    """A JSON file of at most `max_bytes`, parsed strictly."""
    mapped = MappedFile(path)
    try:
        if mapped.size > max_bytes:
            raise ModelFileError(path, "file", f"{mapped.size} bytes, at most {max_bytes}")
        text = mapped.map[:]
    finally:
        mapped.close()
    return parse_json(path, "file", text)


def _tensors(mapped: MappedFile) -> dict[str, Tensor]:
    path = mapped.path
    head = mapped.map[:8]
    if kind := foreign_content(head):
        raise ModelFileError(
            path,
            "file",
            f"this is {kind}, not safetensors; such files can run code and are refused",
        )
    if len(head) < 8:
        raise ModelFileError(path, "header length", f"needs 8 bytes, the file has {len(head)}")
    header_len = int.from_bytes(head, "little")
    if header_len > min(mapped.size - 8, MAX_HEADER_BYTES):
        raise ModelFileError(
            path,
            "header length",
            f"{header_len} bytes, the file has {mapped.size - 8} and at most {MAX_HEADER_BYTES} "
            "are accepted",
            offset=0,
        )
    header = parse_json(path, "header", mapped.map[8 : 8 + header_len], offset=8)
    extra = header.pop("__metadata__", {})
    if not isinstance(extra, dict) or not all(isinstance(value, str) for value in extra.values()):
        raise ModelFileError(path, "__metadata__", "expected an object of texts", offset=8)
    entries = {name: _entry(path, name, entry) for name, entry in header.items()}
    return _place(mapped, 8 + header_len, entries)


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, begin, end) of one header entry, its parts checked against each other."""
    _check_name(path, name)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(path, name, "expected dtype, shape and data_offsets", offset=8)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelFileError(
            path,
            name,
            f"weight type {str(dtype)[:60]!r} is not supported, these are: {', '.join(DTYPES)}",
            offset=8,
        )
    if not _is_ints(shape) or not _is_ints(offsets) or len(offsets) != 2:
        raise ModelFileError(path, name, "shape and data_offsets must be whole numbers", offset=8)
    num_bytes = tensor_bytes(path, name, dtype, tuple(shape), offset=8)
    begin, end = offsets
    if begin < 0 or end - begin != num_bytes:
        raise ModelFileError(
            path, name, f"data_offsets {str(offsets)[:60]} do not hold {num_bytes} bytes", offset=8
        )
    return dtype, tuple(shape), begin, end


def _check_name(path: Path, name: str) -> None:
    """Names end up in messages and logs: no control characters, no lone surrogates."""
    if not 0 < len(name) <= MAX_NAME_LEN or not name.isprintable():
        raise ModelFileError(
            path, "tensor name", f"{name[:60]!r} is empty, too long or not printable"
        )


def _is_ints(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _place(
    mapped: MappedFile, data_start: int, entries: dict[str, tuple[str, tuple[int, ...], int, int]]
) -> dict[str, Tensor]:
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2]):
        if begin != position:
            what = "overlaps another tensor" if begin < position else "leaves a gap before it"
            raise ModelFileError(mapped.path, name, f"data_offsets {begin}: {what}", offset=8)
        position = end
    if position != mapped.size - data_start:
        raise ModelFileError(
            mapped.path,
            "data",
            f"the header describes {position} bytes, the file has {mapped.size - data_start}: "
            "it is incomplete or damaged",
            offset=data_start,
        )
    file = str(mapped.path)
    return {
        name: Tensor(
            name,
            shape,
            dtype,
            mapped.data[data_start + begin : data_start + end],
            file,
            data_start + begin,
        )
        for name, (dtype, shape, begin, end) in entries.items()
    }


def foreign_content(head: bytes) -> str | None:
    """What a file's first bytes show it to be, where that is a format we refuse to read."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "a zip archive (a PyTorch pickle)"
    # Pickle's first two bytes could also be a header's length, but only with zeros to follow.
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and any(head[3:]):
        return "a pickle"
    return None
