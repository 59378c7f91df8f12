"""Damaged model files, made from small whole ones: the corpus that no reader may crash on.

Deterministic: the same seed gives the same bytes. A damaged file may still be readable (a flipped
bit in a weight); it must then be read as what it says, or be refused, and nothing else.
`python -m tests.weights.damage FOLDER [COUNT]` writes the files for runs under a sanitizer.
"""

import hashlib
import json
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.weights.crafted import ARRAY, STRING, TINIEST, Tiny, hf_folder, tiny_gguf

EDGES_64 = (
    0, 1, 2, 31, 255, (1 << 15) - 1, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    1 << 40, 1 << 61, (1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1,
)  # fmt: skip
EDGES_32 = (0, 1, 2, 3, 5, 9, 13, 31, 64, 255, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def seeds() -> list[tuple[str, bytes]]:
    """(suffix, whole file): GGUF of both block sizes, and safetensors."""
    big_blocks = Tiny(hidden=256, ffn=256, layers=1, q_heads=2, kv_heads=1, vocab=4, head_dim=16)
    return [
        (".gguf", tiny_gguf("llama", "Q4_1", TINIEST).encode()),
        (".gguf", tiny_gguf("qwen2", "Q8_0", TINIEST, tied=True).encode()),
        (".gguf", tiny_gguf("qwen3", "F16", big_blocks).encode()),
        (".safetensors", tiny_hf_weights()),
    ]


def tiny_hf_weights() -> bytes:
    """model.safetensors of the folder that `crafted.hf_folder` writes."""
    with tempfile.TemporaryDirectory() as folder:
        return (hf_folder(Path(folder)) / "model.safetensors").read_bytes()


def gguf_fields(data: bytes) -> list[tuple[int, int]]:
    """(offset, width) of every number in the header of a whole GGUF file."""
    fields = [(4, 4), (8, 8), (16, 8)]
    pos = 24

    def number(width: int) -> int:
        nonlocal pos
        fields.append((pos, width))
        pos += width
        return int.from_bytes(data[pos - width : pos], "little")

    def text() -> None:
        nonlocal pos
        length = number(8)
        pos += length

    def value(kind: int) -> None:
        if kind == STRING:
            text()
        elif kind == ARRAY:
            element = number(4)
            for _ in range(number(8)):
                value(element)
        else:
            number(_SCALAR_BYTES[kind])

    num_tensors, num_pairs = struct.unpack_from("<QQ", data, 8)
    for _ in range(num_pairs):
        text()
        value(number(4))
    for _ in range(num_tensors):
        text()
        for _ in range(number(4)):
            number(8)
        number(4)
        number(8)
    return fields


def damage_gguf(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three structural changes, sometimes a cut."""
    fields = gguf_fields(data)
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        offset, width = fields[int(rng.integers(len(fields)))]
        old = int.from_bytes(out[offset : offset + width], "little")
        edges = EDGES_64 if width == 8 else EDGES_32
        choice = rng.integers(4)
        if choice == 0:
            new = old ^ 1 << int(rng.integers(8 * width))
        elif choice == 1:
            new = old + (1 if rng.integers(2) else -1)
        else:
            new = edges[int(rng.integers(len(edges)))]
        out[offset : offset + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return damage_bytes(bytes(out), rng, chance=4)


def damage_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """A changed entry of the header, a wrong header length, or changed bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = sorted(header)[int(rng.integers(len(header)))]
    entry = header[name]
    edge = EDGES_64[int(rng.integers(len(EDGES_64)))]
    match int(rng.integers(7)):
        case 0:
            entry["data_offsets"][int(rng.integers(2))] = edge
        case 1:
            entry["shape"][int(rng.integers(len(entry["shape"])))] = edge
        case 2:
            entry["shape"] = [edge, *entry["shape"]]
        case 3:
            entry["dtype"] = ("F64", "I8", "BF16", "F8_E5M2", "", 0)[int(rng.integers(6))]
        case 4:
            header[name + "x"] = dict(entry)
        case 5:
            del header[name]
        case _:
            pass
    text = json.dumps(header).encode()
    claimed = edge if rng.integers(4) == 0 else len(text)
    out = claimed.to_bytes(8, "little") + text + data[8 + length :]
    return damage_bytes(out, rng, chance=2)


def damage_bytes(data: bytes, rng: np.random.Generator, chance: int) -> bytes:
    """With a probability of one in `chance`: cut, flip, or repeat a stretch."""
    if rng.integers(chance):
        return data
    at = int(rng.integers(1, len(data)))
    match int(rng.integers(3)):
        case 0:
            return data[:at]
        case 1:
            out = bytearray(data)
            for spot in rng.integers(0, len(data), size=4):
                out[spot] ^= 1 << int(rng.integers(8))
            return bytes(out)
        case _:
            return data[:at] + data[at : at + int(rng.integers(1, 64))] + data[at:]


def damage_weights(suffix: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped in the weights only: the file opens, scales may be NaN, infinite or huge."""
    if suffix == ".gguf":
        start = max(offset for offset, _ in gguf_fields(data)) + 8
    else:
        start = 8 + int.from_bytes(data[:8], "little")
    out = bytearray(data)
    for spot in rng.integers(start, len(data), size=64):
        out[spot] = 255 if rng.integers(2) else int(rng.integers(256))
    return bytes(out)


def damaged_files(count: int = 200, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` distinct files as (name, bytes), one seed file after the other."""
    whole = seeds()
    seen = {hashlib.sha256(data).digest() for _, data in whole}
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        suffix, data = whole[made % len(whole)]
        damage = damage_gguf if suffix == ".gguf" else damage_safetensors
        # Every fifth file opens, so that what comes after the readers is tried too.
        content = damage_weights(suffix, data, rng) if made % 5 == 4 else damage(data, rng)
        digest = hashlib.sha256(content).digest()
        if content and digest not in seen:
            seen.add(digest)
            yield f"{made:03d}{suffix}", content
            made += 1


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in damaged_files(int(sys.argv[2]) if len(sys.argv) > 2 else 200):
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
