"""Files made to harm: known attacks on other readers, pickles, damage and fuzzing.

Whatever the bytes, opening a model gives a working Checkpoint or a ModelFileError, quickly and
without taking memory that the file does not have.
"""

import json
import logging
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import firefront.weights
from firefront.core.errors import ModelFileError
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.config_hf import config_from_hf
from firefront.weights.quant import dequantize
from firefront.weights.safetensors import SafetensorsFile
from tests.weights import damage
from tests.weights.crafted import (
    ARRAY,
    GGML,
    STRING,
    TINIEST,
    U8,
    U32,
    RawGGUF,
    hf_config,
    hf_folder,
    tiny_gguf,
)

MAX_PEAK_BYTES = 2 << 20


def opens_or_refuses(path, decode=True) -> bool:
    """Whether `path` opened; any exception but ModelFileError fails the test."""
    try:
        checkpoint = open_checkpoint(path)
    except ModelFileError as error:
        error.message.encode()
        return False
    with checkpoint:
        for tensor in checkpoint.tensors.values():
            assert tensor.data.size == tensor.num_bytes > 0
            if decode:
                dequantize(tensor)
    return True


def with_tensor(dims, number=GGML["F32"], offset=0, data=b"", **fields):
    raw = RawGGUF(pairs=[("general.architecture", STRING, "llama")], data=data, **fields)
    raw.tensors = [("token_embd.weight", list(dims), number, offset)]
    return raw


def stretched(name, factor):
    """A whole model but for one tensor, which claims to be `factor` times as long as its data."""
    raw = tiny_gguf("llama", "F32", TINIEST)
    for i, (tensor, dims, number, offset) in enumerate(raw.tensors):
        if tensor == name:
            raw.tensors[i] = (tensor, [dims[0], dims[1] * factor], number, offset)
    return raw


# One file for each published hole in another GGUF reader.
ATTACKS = {
    # llama.cpp: the total of the tensors' sizes wraps around 64 bits.
    "CVE-2025-53630": with_tensor([1 << 61, 8], data=bytes(64)),
    # its fix was bypassed: sizes that wrap only once padding is added.
    "CVE-2026-27940": with_tensor([(1 << 62) - 1], data=bytes(64)),
    "CVE-2026-27940 offset": with_tensor([8], offset=(1 << 64) - 32, data=bytes(64)),
    # Ollama: a tensor declared larger than the file; reading it leaks the heap.
    "CVE-2026-7482": stretched("token_embd.weight", 1000),
    "CVE-2026-7482 last": stretched("blk.0.ffn_down.weight", 2),
    # Ollama: a count makes the reader allocate without limit.
    "CVE-2025-0315 tensors": RawGGUF(num_tensors=1 << 40, data=bytes(64)),
    "CVE-2025-0315 keys": RawGGUF(num_pairs=(1 << 64) - 1, data=bytes(64)),
    "CVE-2025-0315 array": RawGGUF(
        pairs=[("k", ARRAY, U8.to_bytes(4, "little") + (1 << 36).to_bytes(8, "little"))]
    ),
    "CVE-2025-0315 string": RawGGUF(pairs=[("k", STRING, (1 << 36).to_bytes(8, "little"))]),
    # Ollama: reading past the end through a string or a block count of a tensor.
    "CVE-2024-12055": RawGGUF(pairs=[("k", STRING, (1 << 63).to_bytes(8, "little"))]),
    "CVE-2024-12055 name": RawGGUF(num_tensors=1, data=b"\xff" * 64),
    # Ollama: division by an alignment, a head count or a block size of zero.
    "CVE-2025-0317": RawGGUF(pairs=[("general.alignment", U32, 0)], data=bytes(64)),
    "CVE-2025-0317 heads": RawGGUF(
        pairs=[
            (key, kind, 0 if key == "llama.attention.head_count" else value)
            for key, kind, value in tiny_gguf("llama", "F32", TINIEST).pairs
        ],
        tensors=tiny_gguf("llama", "F32", TINIEST).tensors,
        data=tiny_gguf("llama", "F32", TINIEST).data,
    ),
    # llama.cpp: type number out of range indexes past a table.
    "type out of range": with_tensor([8], number=(1 << 31) - 1, data=bytes(64)),
    "dims out of range": with_tensor([1] * 4, num_dims=1 << 20, data=bytes(64)),
    # vLLM CVE-2026-53923: sizes truncated to 32 bits in a kernel.
    "CVE-2026-53923": with_tensor([1 << 16, (1 << 16) + 1], data=bytes(1 << 18)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ATTACKS)
def test_known_attacks_are_refused(tmp_path, name):
    path = tmp_path / "attack.gguf"
    path.write_bytes(ATTACKS[name].encode())
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as info:
            open_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_PEAK_BYTES
    finally:
        tracemalloc.stop()
    assert info.value.field and str(path) in info.value.message


def test_a_large_header_is_bounded(tmp_path):
    """Nested empty arrays cost 12 bytes each in the file; memory stays in proportion."""
    count = 50_000
    body = U8.to_bytes(4, "little") + bytes(8)
    nested = ARRAY.to_bytes(4, "little") + count.to_bytes(8, "little") + body * count
    path = tmp_path / "wide.gguf"
    path.write_bytes(RawGGUF(pairs=[("k", ARRAY, nested)]).encode())
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="general.architecture"):
            open_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * path.stat().st_size
    finally:
        tracemalloc.stop()


class Canary:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def pickled(canary, protocol):
    return pickle.dumps({"weight": Canary(canary)}, protocol=protocol)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pth", "model.safetensors", "model.gguf"]
)
def test_pickles_are_refused_unread(tmp_path, name, protocol):
    canary = tmp_path / "canary"
    folder = hf_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickled(canary, protocol))
    with pytest.raises(ModelFileError) as info:
        open_checkpoint(folder / name if name.endswith(".gguf") else folder)
    if protocol >= 2 or not name.startswith("model.s"):
        assert "pickle" in info.value.message or "not a GGUF file" in info.value.message
    assert not canary.exists()


def test_zip_and_legacy_torch_files_renamed(tmp_path):
    folder = hf_folder(tmp_path / "model")
    target = folder / "model.safetensors"
    for zipped in (True, False):
        torch.save({"a": torch.zeros(2)}, target, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ModelFileError, match="pickle"):
            open_checkpoint(folder)
    with zipfile.ZipFile(target, "w"):
        pass
    with pytest.raises(ModelFileError, match="zip archive"):
        open_checkpoint(folder)


def test_a_pickle_beside_good_weights_is_refused(tmp_path):
    folder = hf_folder(tmp_path / "model")
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"anything")
    with pytest.raises(ModelFileError, match="pytorch_model-00001.*refused"):
        open_checkpoint(folder)


def test_a_trainers_leftovers_are_ignored(tmp_path, caplog):
    canary = tmp_path / "canary"
    folder = hf_folder(tmp_path / "model")
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth"):
        (folder / name).write_bytes(pickled(canary, 4))
    with caplog.at_level(logging.WARNING), open_checkpoint(folder):
        assert "training_args.bin" in caplog.text
    assert not canary.exists()


def test_no_module_of_ours_can_unpickle():
    for path in Path(firefront.weights.__file__).parent.glob("*.py"):
        words = path.read_text()
        for word in ("import pickle", "torch.load", "import torch", "eval(", "exec("):
            assert word not in words, path


def test_seed_files_are_whole(tmp_path):
    for i, (suffix, content) in enumerate(damage.seeds()):
        path = tmp_path / f"{i}{suffix}"
        path.write_bytes(content)
        if suffix == ".gguf":
            assert opens_or_refuses(path)
        else:
            SafetensorsFile(path).close()


def test_damaged_files(tmp_path):
    files = dict(damage.damaged_files(200))
    assert len(files) == len(set(files.values())) == 200
    assert list(damage.damaged_files(5)) == list(files.items())[:5]
    folder = hf_folder(tmp_path / "model")
    num_refused = 0
    for name, content in files.items():
        path = tmp_path / name
        if name.endswith(".safetensors"):
            path = folder / "model.safetensors"
        path.write_bytes(content)
        num_refused += not opens_or_refuses(folder if path.parent == folder else path)
    assert 120 < num_refused < 180


GGUF_SEEDS = [content for suffix, content in damage.seeds() if suffix == ".gguf"][:2]
GGUF_FIELDS = [damage.gguf_fields(content) for content in GGUF_SEEDS]
FUZZ = settings(
    max_examples=600,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(data=st.data())
def test_fuzz_gguf(tmp_path, data):
    which = data.draw(st.integers(0, len(GGUF_SEEDS) - 1))
    content = bytearray(GGUF_SEEDS[which])
    for _ in range(data.draw(st.integers(1, 4))):
        offset, width = data.draw(st.sampled_from(GGUF_FIELDS[which]))
        value = data.draw(
            st.sampled_from(damage.EDGES_64 if width == 8 else damage.EDGES_32)
            | st.integers(0, (1 << 8 * width) - 1)
        )
        content[offset : offset + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    cut = data.draw(st.none() | st.integers(1, len(content)))
    path = tmp_path / "fuzz.gguf"
    path.write_bytes(content[:cut])
    opens_or_refuses(path, decode=False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["F32", "F16", "BF16"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@FUZZ
@given(name=st.text(max_size=6), entry=JSON, field=st.none() | st.sampled_from(
    ["dtype", "shape", "data_offsets"]), size=st.integers(0, 80))  # fmt: skip
def test_fuzz_safetensors(tmp_path, name, entry, field, size):
    good = {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 40]}
    header = json.dumps({name: good | {field: entry} if field else entry}).encode()
    path = tmp_path / "fuzz.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    try:
        SafetensorsFile(path).close()
    except ModelFileError as error:
        error.message.encode()


HF_KEYS = sorted(hf_config("qwen2")) + [
    "rope_scaling", "rope_parameters", "rope_theta", "sliding_window", "use_sliding_window",
    "max_window_layers", "layer_types", "tie_word_embeddings", "auto_map", "attention_bias",
    "quantization_config", "partial_rotary_factor",
]  # fmt: skip


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(HF_KEYS), JSON, min_size=1, max_size=3),
       family=st.sampled_from(["llama", "mistral", "qwen2", "qwen3"]))  # fmt: skip
def test_fuzz_config_json(changes, family):
    try:
        config = config_from_hf("config.json", hf_config(family, **changes), True)
    except ModelFileError as error:
        error.message.encode()
        return
    assert config.num_q_heads % config.num_kv_heads == 0 and config.head_dim % 2 == 0
    assert np.isfinite(config.norm_eps) and np.isfinite(config.rope.theta)
