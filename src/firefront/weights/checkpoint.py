"""A model's weights and sizes, from a GGUF file or a Hugging Face folder, as one thing.

Owns the joining of container, config and names; past it nobody asks which format a model came from.
Decodes nothing and copies nothing. Invariant: an open Checkpoint is complete: every tensor that its
config needs is there, in shape.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from firefront.core.errors import ModelFileError
from firefront.core.messages import ModelFacts
from firefront.core.model_config import ModelConfig
from firefront.weights.config_fields import Fields
from firefront.weights.config_gguf import ROPE_FACTORS, config_from_gguf
from firefront.weights.config_hf import config_from_hf
from firefront.weights.gguf import GGUFFile
from firefront.weights.int8 import check_quantization, join_scales
from firefront.weights.layout import EMBED, LM_HEAD, check_tensors, hf_name, row_order
from firefront.weights.safetensors import open_safetensors, read_json
from firefront.weights.tensor import Tensor

__all__ = ["Checkpoint", "Tensor", "open_checkpoint"]

MAX_CONFIG_BYTES = 1 << 20
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

# What trainers leave beside the weights: pickles too, but no part of a model. Never opened.
TRAINER_FILES = ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An open model. `tensors` by Hugging Face name; `metadata` is the file's own (GGUF's keys and
    values, or config.json). Tensors are views into mapped files: not to be used after `close()`.
    """

    path: Path
    kind: str  # gguf | hf
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]
    _close: Callable[[], None] = field(repr=False)

    @property
    def num_bytes(self) -> int:
        """Bytes of all weights as stored."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    @property
    def num_parameters(self) -> int:
        """Numbers in all weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def scheme_bytes(self) -> dict[str, int]:
        """Bytes as stored, by scheme; the largest first."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.num_bytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    @property
    def facts(self) -> ModelFacts:
        """What a replica says of it."""
        container = "GGUF" if self.kind == "gguf" else "safetensors"
        return ModelFacts(
            num_parameters=self.num_parameters,
            weight_bytes=self.num_bytes,
            format=f"{container} {next(iter(self.scheme_bytes))}",
        )

    def close(self) -> None:
        """Unmap the files. Twice is fine; views still held keep their mapping alive."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a .gguf file or a folder in Hugging Face layout.

    Raises ModelFileError naming file, field and problem for anything damaged or unsupported.
    """
    path = Path(path)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise ModelFileError(path, "path", str(error)) from None
    if is_folder:
        return _open_folder(path)
    if not exists:
        raise ModelFileError(path, "path", "no such file or folder")
    if path.suffix in (".safetensors", ".json", *PICKLE_SUFFIXES):
        raise ModelFileError(
            path,
            "path",
            "expected a .gguf file, or the folder with config.json and model.safetensors",
        )
    return _open_gguf(path)


def _open_gguf(path: Path) -> Checkpoint:
    file = GGUFFile(path)
    try:
        config = config_from_gguf(path, file.metadata, file.tensors)
        tensors: dict[str, Tensor] = {}
        for stored_name, tensor in file.tensors.items():
            if stored_name == ROPE_FACTORS:
                continue  # already in config.rope
            if (name := hf_name(stored_name, config.family)) is None:
                raise ModelFileError(
                    path, stored_name, f"no {config.family} model has such a tensor"
                )
            tensors[name] = replace(tensor, name=name)
        check_tensors(path, config, tensors)
        _restore_row_order(config, tensors)
    except BaseException:
        file.close()
        raise
    return Checkpoint(path, "gguf", config, tensors, file.metadata, file.close)


def _restore_row_order(config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    """Mark what a GGUF stores permuted."""
    for name, tensor in tensors.items():
        if (order := row_order(name.rpartition(".")[0], config)) is not None:
            tensors[name] = replace(tensor, row_order=order)


def _open_folder(folder: Path) -> Checkpoint:
    _refuse_pickles(folder)
    config_path = folder / "config.json"
    if not config_path.exists():
        raise ModelFileError(
            folder, "config.json", "the folder has none; to open a GGUF give the file itself"
        )
    settings = read_json(config_path, MAX_CONFIG_BYTES)
    check_quantization(Fields(config_path, settings))  # before its tensors are found odd
    tensors, files = open_safetensors(folder)

    def close() -> None:
        for file in files:
            file.close()

    try:
        for name in [name for name in tensors if name.endswith(".rotary_emb.inv_freq")]:
            del tensors[name]  # a table that old files carry; it follows from the config
        if settings.get("quantization_config") is not None:
            join_scales(tensors)
        _drop_tied_copy(tensors, settings.get("tie_word_embeddings") is True)
        embed_dtype = tensors[EMBED].dtype if EMBED in tensors else "F32"
        config = config_from_hf(
            config_path, settings, has_lm_head=LM_HEAD in tensors, embed_dtype=embed_dtype
        )
        check_tensors(folder, config, tensors)
        if config.family == "gemma3":
            _restore_norms(tensors)
    except BaseException:
        close()
        raise
    return Checkpoint(folder, "hf", config, tensors, settings, close)


def _restore_norms(tensors: dict[str, Tensor]) -> None:
    """Mark Gemma's norms as stored without the 1 that belongs to them; GGUF stores them whole."""
    for name, tensor in tensors.items():
        if name.endswith("norm.weight"):
            tensors[name] = replace(tensor, shift=1.0)


def _drop_tied_copy(tensors: dict[str, Tensor], tied: bool) -> None:
    """Drop an output matrix that only repeats the embedding. One that differs is kept and used."""
    head, table = tensors.get(LM_HEAD), tensors.get(EMBED)
    if not tied or head is None or table is None:
        return
    same_scales = (head.scales is None) == (table.scales is None)
    if head.scales is not None and table.scales is not None:
        same_scales = np.array_equal(head.scales, table.scales)
    if head.dtype == table.dtype and same_scales and np.array_equal(head.data, table.data):
        del tensors[LM_HEAD]
    else:
        log.warning("%s: lm_head differs from the embedding it is said to be tied to", head.file)


def _refuse_pickles(folder: Path) -> None:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise ModelFileError(folder, "folder", f"cannot be read: {error}") from None
    for path in paths:
        if path.suffix not in PICKLE_SUFFIXES or path.is_dir():
            continue
        if path.name.startswith(TRAINER_FILES):
            log.warning("%s: a trainer's pickle, ignored and never opened", path)
            continue
        raise ModelFileError(
            path,
            "file",
            "pickled weights can run code and are refused; use a safetensors or GGUF version of "
            "this model, or remove the file if model.safetensors is complete without it",
        )


def bytes_per_weight(checkpoint: Checkpoint) -> Callable[[str], float]:
    """Bytes of one weight of a tensor in the file, by name; 4 for a name that is not there."""
    sizes = {
        name: tensor.num_bytes / math.prod(tensor.shape)
        for name, tensor in checkpoint.tensors.items()
    }
    return lambda name: sizes.get(name, 4.0)
