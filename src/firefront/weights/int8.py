"""Int8 safetensors with one scale a row, as the `compressed-tensors` package writes them.

Owns what its settings mean and which tensors belong together: `NAME.weight` in I8 and
`NAME.weight_scale`. Activations are not part of it: the executor quantises them its own, finer way.
Invariant: settings under which the stored weights would mean anything else are refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from firefront.core.errors import ModelFileError
from firefront.weights.config_fields import Fields
from firefront.weights.quant import dequantize
from firefront.weights.tensor import FLOATS, Tensor

METHOD, FORMAT = "compressed-tensors", "int-quantized"
SCALE = "_scale"  # after the name of the weight

# What a group of layers must say: setting -> the values that are understood.
WEIGHTS: dict[str, tuple[Any, ...]] = {
    "num_bits": (8,),
    "type": ("int",),
    "strategy": ("channel",),
    "symmetric": (True,),
    "dynamic": (False, None),
    "group_size": (None,),
    "block_structure": (None,),
}
ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "num_bits": (8,),
    "type": ("int",),
    "dynamic": (True,),
}


def check_quantization(fields: Fields) -> None:
    """Refuse a `quantization_config` that is not symmetric int8 with a scale for each row."""
    settings = fields.get("quantization_config")
    if settings is None:
        return
    inside = _inside(fields, "quantization_config", settings)
    _expect(inside, "quant_method", (METHOD,))
    _expect(inside, "format", (FORMAT,))
    _expect(inside, "kv_cache_scheme", (None,))
    _expect(inside, "transform_config", ({}, None))
    _expect(inside, "moe_sparsity_config", (None,))
    if sparsity := inside.get("sparsity_config"):  # of dense weights older files say more
        _expect(_inside(inside, "sparsity_config", sparsity), "format", ("dense",))
    groups = inside.get("config_groups")
    listed = _inside(inside, "config_groups", groups)
    if not groups:
        raise inside.refuse("config_groups", "empty, expected at least one group")
    for name, group in groups.items():
        each = _inside(listed, str(name)[:60], group)
        _expect(each, "format", (FORMAT, None))
        _expect(each, "output_activations", (None,))
        for part, wanted in (("weights", WEIGHTS), ("input_activations", ACTIVATIONS)):
            if part == "input_activations" and each.get(part) is None:
                continue
            settings = _inside(each, part, each.get(part))
            for setting, values in wanted.items():
                _expect(settings, setting, values)


def join_scales(tensors: dict[str, Tensor]) -> None:
    """Move the scales into the int8 tensors that they belong to. ModelFileError names a bad one."""
    for name, tensor in list(tensors.items()):
        stored = tensors.get(name + SCALE)
        if tensor.dtype != "I8" or stored is None:
            continue
        rows = tensor.shape[0]
        if stored.dtype not in FLOATS or stored.shape not in ((rows,), (rows, 1)):
            raise ModelFileError(
                stored.file,
                stored.name,
                f"{stored.dtype} of shape {stored.shape}, expected floats, one a row: ({rows}, 1)",
                offset=stored.offset,
            )
        scales = np.ascontiguousarray(dequantize(stored).reshape(-1))
        tensors[name] = replace(tensor, scales=scales)
        del tensors[name + SCALE]


def _inside(fields: Fields, name: str, value: object) -> Fields:
    """The settings under one of `fields`, with their full names."""
    if not isinstance(value, Mapping):
        raise fields.refuse(name, "missing" if value is None else "expected an object")
    prefix = f"{fields.prefix}{name}."
    return Fields(fields.file, {prefix + str(key): item for key, item in value.items()}, prefix)


def _expect(fields: Fields, name: str, values: tuple[Any, ...]) -> None:
    value = fields.get(name)
    if not any(type(value) is type(wanted) and value == wanted for wanted in values):
        raise fields.refuse(
            name,
            f"{str(value)[:60]!r} is not supported, {values[0]!r} is: only symmetric "
            "int8 with one scale a row can be read (compressed-tensors, int-quantized); "
            "otherwise use the F32, F16 or BF16 files, or a GGUF",
        )
