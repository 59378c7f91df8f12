"""PEFT's adapter_config.json: which modules an adapter changes, at which rank and scale.

Owns PEFT's rules of matching and what of them cannot be served. Knows no tensors.
Invariant: an adapter that passes means here what it means in PEFT 0.19; expressions in the file are
matched in linear time.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firefront.core.errors import ModelFileError
from firefront.weights.config_fields import Fields
from firefront.weights.safetensors import read_json

CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
MAX_RANK = 256
MAX_PATTERN_LEN = 1 << 10
MAX_EXPRESSIONS = 64

Match = Callable[[str], bool]
log = logging.getLogger(__name__)

# What changes the model in other ways than a low-rank product beside a linear, and the way out.
_REFUSED = {
    "use_dora": "DoRA cannot be served, its magnitudes change the base; train with use_dora=False",
    "modules_to_save": "whole layers trained beside LoRA cannot be served; train without them",
    "lora_bias": "biases cannot be served; train with lora_bias=False",
    "target_parameters": "LoRA on parameters (experts) cannot be served; use target_modules",
    "trainable_token_indices": "trained embeddings cannot be served; train without them",
    "alora_invocation_tokens": "aLoRA, which starts in the middle of a text, cannot be served",
    "use_qalora": "QALoRA cannot be served; train with use_qalora=False",
    "layer_replication": "replicated layers cannot be served; serve the grown model as its own",
    "use_bdlora": "block-diagonal LoRA cannot be served; train with use_bdlora=None",
    "arrow_config": "Arrow's routing cannot be served; serve its adapters one by one",
    "megatron_config": "Megatron's layers cannot be served; export the adapter for transformers",
}
_PLAIN_INITS = ("gaussian", "eva", "orthogonal")
# These take the adapter's first value out of the base, which then is another model.
_MUTATING_INITS = ("pissa", "corda", "olora", "lora_ga", "loftq")
_PLAIN = re.compile(r"[\w.]+", re.ASCII)
_WORD = re.compile(r"\w+", re.ASCII)
_DIALECT = re.compile(r"[^ -~]|&&|--|~~|\[\^?\]?[^\]]*\[|\\b\{|\\[^dDwWsSbB\]\[.^$*+?(){}|/_-]")
_LAYER = re.compile(r".*\.[^.]*\.(\d+)\.")


@dataclass(frozen=True)
class LoraConfig:
    """What adapter_config.json says of modules by their Hugging Face names."""

    path: Path
    targets: Match | None  # None: whatever the tensors are of
    _r: int
    _alpha: float
    _use_rslora: bool
    _ranks: list[tuple[Match, int]]
    _alphas: list[tuple[Match, float]]

    def rank(self, module: str) -> int:
        """Of the first pattern that matches, else r. ModelFileError if it is not served."""
        rank = next((rank for match, rank in self._ranks if match(module)), self._r)
        if rank > MAX_RANK:
            raise ModelFileError(
                self.path,
                "r",
                f"{module} has rank {rank}, at most {MAX_RANK} is served; train with a lower rank",
            )
        return rank

    def scale(self, module: str) -> float:
        """alpha / r, or alpha / sqrt(r) of rank-stabilised LoRA (arXiv 2312.03732)."""
        alpha = next((alpha for match, alpha in self._alphas if match(module)), self._alpha)
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self._use_rslora else rank)


def read_lora_config(path: Path) -> LoraConfig:
    """Read the file. ModelFileError names the field that is wrong or cannot be served."""
    fields = Fields(path, read_json(path, MAX_CONFIG_BYTES))
    _check_kind(fields)
    return LoraConfig(
        path,
        _targets(fields),
        _whole(fields, "r", fields.values.get("r", 8)),
        _number(fields, "lora_alpha", fields.values.get("lora_alpha", 8)),
        fields.flag("use_rslora", False),
        _patterns(fields, "rank_pattern", _whole),
        _patterns(fields, "alpha_pattern", _number),
    )


def _check_kind(fields: Fields) -> None:
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise fields.refuse("peft_type", f"{str(kind)[:60]!r} cannot be served, only LORA can")
    task = fields.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise fields.refuse("task_type", f"{str(task)[:60]!r} cannot be served, only CAUSAL_LM can")
    for name, problem in _REFUSED.items():
        if fields.get(name):
            raise fields.refuse(name, problem)
    if fields.get("bias") not in (None, "none"):
        raise fields.refuse("bias", "trained biases cannot be served; train with bias='none'")
    init = fields.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_MUTATING_INITS):
        raise fields.refuse(
            "init_lora_weights",
            f"{init[:60]!r} trains on a changed base, which is not the model served; save it with "
            "path_initial_model_for_weight_conversion, which makes it a plain LoRA adapter",
        )
    if not (init is None or isinstance(init, bool) or str(init).lower() in _PLAIN_INITS):
        raise fields.refuse("init_lora_weights", f"{str(init)[:60]!r} is not known here")
    # fan_in_fan_out is not looked at: PEFT sets it to False for every Linear.


def _targets(fields: Fields) -> Match | None:
    """PEFT's rule for which modules are changed (`check_target_module_exists`)."""
    wanted = fields.get("target_modules")
    if wanted is None:
        return None
    if isinstance(wanted, str):
        for name in ("layers_to_transform", "layers_pattern"):
            if fields.get(name) is not None:
                raise fields.refuse(name, "cannot be used when target_modules is a text")
        if wanted.lower() == "all-linear":
            included: Match | None = _always
        else:
            included = _expression(fields, "target_modules", wanted)
    else:
        included = _listed(fields, _texts(fields, "target_modules", wanted))
    excluded = _excluded(fields)
    if included is None or excluded is None:
        return None
    return lambda module: included(module) and not excluded(module)


def _always(module: str) -> bool:
    return True


def _listed(fields: Fields, names: list[str]) -> Match:
    """Modules named in full, and those of the chosen layers that end in a name."""
    chosen = fields.get("layers_to_transform")
    layers = [chosen] if type(chosen) is int else chosen or []
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise fields.refuse("layers_to_transform", "expected one or more whole numbers")
    given = fields.get("layers_pattern") or []
    patterns = _texts(fields, "layers_pattern", [given] if isinstance(given, str) else given)
    if not all(_WORD.fullmatch(pattern) for pattern in patterns):
        raise fields.refuse("layers_pattern", "expected the name of a list of layers, as 'layers'")
    expressions = [re.compile(rf".*\.{p}\.(\d+)\.") for p in patterns] or [_LAYER]
    full, endings = frozenset(names), tuple(f".{name}" for name in names)

    def match(module: str) -> bool:
        if module in full:
            return True
        if not module.endswith(endings):
            return False
        found = next((m for e in expressions if (m := e.match(module))), None)
        return not layers or (found is not None and int(found[1]) in layers)

    return match


def _excluded(fields: Fields) -> Match | None:
    unwanted = fields.get("exclude_modules") or []
    if isinstance(unwanted, str):
        return _expression(fields, "exclude_modules", unwanted)
    names = _texts(fields, "exclude_modules", unwanted)
    full, endings = frozenset(names), tuple(f".{name}" for name in names)
    return lambda module: module in full or module.endswith(endings)


def _patterns(
    fields: Fields, name: str, read: Callable[[Fields, str, Any], Any]
) -> list[tuple[Match, Any]]:
    """rank_pattern or alpha_pattern, in order. PEFT takes the first that matches a module's end."""
    given = fields.get(name) or {}
    if not isinstance(given, Mapping):
        raise fields.refuse(name, "expected an object of module name or expression to number")
    if sum(not _PLAIN.fullmatch(key) for key in given) > MAX_EXPRESSIONS:
        raise fields.refuse(name, f"more than {MAX_EXPRESSIONS} expressions; name the modules")
    found: list[tuple[Match, Any]] = []
    for key, value in given.items():
        match = _expression(fields, name, key, is_ending=True)
        if match is None:
            raise fields.refuse(
                name,
                f"{key[:60]!r} is no expression that is matched here (it may look ahead or back); "
                "name the modules",
            )
        found.append((match, read(fields, name, value)))
    return found


def _expression(fields: Fields, name: str, own: str, *, is_ending: bool = False) -> Match | None:
    """Whether a module's path is what `own` expresses, or with `is_ending` ends in it after a dot.

    None for an expression that needs backtracking, or that other engines read otherwise.
    """
    if _PLAIN.fullmatch(own):  # a name, perhaps with its path; a dot stands for any character
        return _ending(own) if is_ending else _same(own)
    if len(own) > MAX_PATTERN_LEN:
        raise fields.refuse(name, f"an expression of {len(own)} characters, at most "
                            f"{MAX_PATTERN_LEN}; name the modules")  # fmt: skip
    from pydantic_core import SchemaError, SchemaValidator, core_schema  # seldom needed

    # PEFT's own way of joining, so that an expression with an | in it means the same.
    anchored = rf"\A(?:(.*\.)?({own})\z)" if is_ending else rf"\A(?:{own})\z"
    try:
        if _DIALECT.search(own):
            raise ValueError("sets in sets, or escapes that mean different things")
        validator = SchemaValidator(core_schema.str_schema(pattern=anchored))
    except (SchemaError, ValueError):
        log.warning("%s: %s: %r cannot be matched in linear time", fields.file, name, own[:200])
        return None
    return validator.isinstance_python


def _same(plain: str) -> Match:
    return re.compile(plain).fullmatch  # type: ignore[return-value]


def _ending(plain: str) -> Match:
    """Whether a module's path is `plain` or ends in it after a dot."""
    expression, length = re.compile(plain), len(plain)
    last = plain.rpartition(".")[2]

    def match(module: str) -> bool:
        start = len(module) - length
        is_aligned = start == 0 or (start > 0 and module[start - 1] == ".")
        return is_aligned and module.endswith(last) and bool(expression.fullmatch(module, start))

    return match


def _texts(fields: Fields, name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise fields.refuse(name, "expected a list of texts")
    return value


def _whole(fields: Fields, name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise fields.refuse(name, f"rank {repr(value)[:60]}, expected a whole number above 0")
    return value


def _number(fields: Fields, name: str, value: Any) -> float:
    try:
        is_number = type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e30
    except OverflowError:
        is_number = False
    if not is_number:
        raise fields.refuse(name, f"{repr(value)[:60]}, expected a finite number")
    return float(value)
