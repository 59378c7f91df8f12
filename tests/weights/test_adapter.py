"""Adapters read from PEFT's folders: what PEFT would add, and everything else refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file, save_file

from firefront.core.errors import ModelFileError
from firefront.weights.adapter import Adapter, open_adapter
from firefront.weights.layout import adapter_shapes
from tests import peft_adapters
from tests.peft_adapters import LINEARS, deltas, edit_config, make_adapter
from tests.tiny import TinyModel, tiny_model

KINDS = ("llama", "qwen2", "qwen3", "gemma3")
LAYER = "model.layers.1.self_attn"


@pytest.fixture(scope="module")
def tinies() -> dict[str, TinyModel]:
    return {kind: tiny_model(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tiny(tinies: dict[str, TinyModel]) -> TinyModel:
    return tinies["llama"]


@pytest.fixture(scope="module")
def saved(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    make_adapter(tiny.model, folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A good adapter to damage."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


def read(tiny: TinyModel, folder: Path) -> Adapter:
    return open_adapter(folder, adapter_shapes(tiny.config))


def check(adapter: Adapter, wanted: dict[str, np.ndarray]) -> None:
    assert adapter.parts.keys() == wanted.keys()
    for name, part in adapter.parts.items():
        assert part.a.dtype == part.b.dtype == np.float32
        got = np.float32(part.scale) * (part.b @ part.a)
        assert_allclose(got, wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert np.abs(got).max() > 1e-3


def test_shapes_are_those_of_the_models_linears(tinies):
    for tiny in tinies.values():
        linears = {
            name: (module.out_features, module.in_features)
            for name, module in tiny.model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"
        }
        assert adapter_shapes(tiny.config) == linears


def test_forty_adapters_of_odd_shapes(tinies, tmp_path):
    """Every family, ranks 4 to 64, any set of linears, patterns of rank and alpha, three dtypes."""
    rng = np.random.default_rng(0)
    seen = set()
    for seed in range(40):
        tiny = tinies[KINDS[seed % len(KINDS)]]
        targets = [str(name) for name in rng.permutation(LINEARS)[: rng.integers(1, 8)]]
        config = {
            "r": int(rng.choice([4, 5, 8, 12, 16, 32, 64])),
            "lora_alpha": int(rng.integers(1, 65)),
            "use_rslora": bool(rng.random() < 0.3),
            "target_modules": targets,
        }
        # Of two patterns that match, PEFT saves the order by name, and reads another adapter.
        if len(targets) > 1 and rng.random() < 0.5:
            config["rank_pattern"] = {targets[0]: 7, rf"layers\.[02]\..*\.{targets[-1]}": 3}
        if len(targets) > 1 and rng.random() < 0.5:
            config["alpha_pattern"] = {rf"^model\.layers\.1\..*{targets[-1]}": 5, targets[0]: 11}
        if rng.random() < 0.3:
            config["layers_to_transform"] = [0, 2]
        dtype = (torch.float32, torch.bfloat16, torch.float16)[seed % 3]
        made = make_adapter(tiny.model, tmp_path / str(seed), seed, dtype, **config)
        adapter = read(tiny, tmp_path / str(seed))
        check(adapter, deltas(made.float()))
        assert adapter.rank == max(part.a.shape[0] for part in adapter.parts.values())
        seen |= {part.rank for part in adapter.parts.values()}
    assert seen >= {3, 4, 7, 64}


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "all-linear"},
        {"target_modules": r"model\.layers\.\d+\.(self_attn\.[qv]|mlp\.up)_proj"},
        {"target_modules": r".*\.(?=q_proj)q_proj"},  # looks ahead: the tensors decide
        {"target_modules": [f"{LAYER}.q_proj", "down_proj"], "layers_to_transform": 0},
        {"target_modules": ["o_proj"], "layers_to_transform": [2], "layers_pattern": ["layers"]},
        {"target_modules": ["q_proj", "up_proj"], "exclude_modules": [f"{LAYER}.q_proj"]},
        {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.0\..*"},
        {"rank_pattern": {"1.self_attn.q_proj": 3, "q_proj": 5, "self_attn..*": 6, "proj": 9}},
        {"rank_pattern": {"nothing)|(model.layers.2.mlp.up_proj": 2}},  # joined as it stands
        {"alpha_pattern": {"layers.1": 2, "Q_PROJ": 3, "(?:k|v)_proj": 2.5, ".*_proj": -4}},
        {"r": 256, "rank_pattern": {"proj": 300}},
        {"lora_alpha": 0.75, "use_rslora": True, "alpha_pattern": {"q_proj": 3}},
        {"fan_in_fan_out": True, "lora_dropout": 0.3, "init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal", "loftq_config": {"loftq_bits": 4}},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_matching_is_pefts(tiny, tmp_path, config):
    made = make_adapter(tiny.model, tmp_path, **config)
    reloaded = deltas(peft_adapters.reload(tiny.model, tmp_path))
    for name, delta in deltas(made).items():
        assert_allclose(reloaded[name], delta, rtol=1e-6)
    check(read(tiny, tmp_path), reloaded)


def test_names_with_the_adapters_name_in_them(tiny, folder):
    path = folder / "adapter_model.safetensors"
    before = read(tiny, folder)
    tensors = load_file(path)
    save_file({k.replace(".weight", ".default.weight"): v for k, v in tensors.items()}, path)
    after = read(tiny, folder)
    for name, part in before.parts.items():
        assert np.array_equal(part.a, after.parts[name].a)
        assert np.array_equal(part.b, after.parts[name].b)


# What cannot be served, by the field that says so; and fields that are wrong.
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"peft_type": "ADALORA"}, "peft_type: 'ADALORA' cannot be served, only LORA"),
        ({"peft_type": None}, "peft_type"),
        ({"task_type": "SEQ_CLS"}, "task_type: 'SEQ_CLS'"),
        ({"use_dora": True}, "use_dora: DoRA cannot be served.*use_dora=False"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: whole layers"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "lora_only"}, "bias: trained biases.*bias='none'"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters.*experts"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"use_qalora": True}, "use_qalora"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"arrow_config": {"top_k": 3}}, "arrow_config"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights.*path_initial_model"),
        ({"init_lora_weights": "olora"}, "init_lora_weights.*changed base"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights.*changed base"),
        ({"init_lora_weights": "novel"}, "init_lora_weights: 'novel' is not known"),
        ({"r": 257}, "r: model.layers.0.self_attn.q_proj has rank 257, at most 256"),
        ({"r": 0}, "r: rank 0"),
        ({"r": True}, "r: rank True"),
        ({"r": 9}, "rank 9 of adapter_config.json"),
        ({"rank_pattern": {"q_proj": 4}}, r"q_proj.lora_A.weight.*\(8, 64\).*rank 4"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern: expected an object"),
        ({"rank_pattern": {"q_proj": "8"}}, "rank_pattern: rank '8'"),
        ({"rank_pattern": {"(?=a)q": 8}}, r"rank_pattern: '\(\?=a\)q'.*name the modules"),
        ({"alpha_pattern": {"(q": 8}}, r"alpha_pattern: '\(q' is no expression"),
        ({"alpha_pattern": {r"\<q": 8}}, "alpha_pattern.*name the modules"),
        ({"alpha_pattern": {"[[a]q]": 8}}, "alpha_pattern.*name the modules"),
        ({"alpha_pattern": {"((a{9}){9}){9}{9}{9}{9}{9}": 8}}, "alpha_pattern"),
        ({"alpha_pattern": {"a*" * 600: 8}}, "alpha_pattern: an expression of 1200"),
        ({"alpha_pattern": {f"a{i}*": 8 for i in range(65)}}, "more than 64 expressions"),
        ({"lora_alpha": "16"}, "lora_alpha: '16'"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"use_rslora": 1}, "use_rslora"),
        ({"target_modules": "q_proj"}, "q_proj.*target_modules of adapter_config.json leaves"),
        ({"target_modules": ["q_proj"]}, "k_proj: has tensors that PEFT would ignore"),
        ({"target_modules": 3}, "target_modules: expected a list"),
        ({"layers_to_transform": [0, 1]}, r"layers.2.*would ignore"),
        ({"layers_to_transform": "0"}, "layers_to_transform: expected one or more"),
        ({"target_modules": "all-linear", "layers_to_transform": 1}, "layers_to_transform"),
        ({"layers_to_transform": 1, "layers_pattern": "l(a"}, "layers_pattern"),
        ({"exclude_modules": ["up_proj"]}, "up_proj.*would ignore"),
    ],
)  # fmt: skip
def test_refused_by_its_config(tiny, folder, changes, match):
    edit_config(folder, **changes)
    with pytest.raises(ModelFileError, match=match):
        read(tiny, folder)


def test_an_expression_cannot_take_forever(tiny, folder):
    """It would in Python's own engine: 2^40 ways to fail."""
    edit_config(folder, alpha_pattern={"((m|o|d|e|l|\\w|.)*)*!": 3})
    assert read(tiny, folder).parts[f"{LAYER}.q_proj"].scale == 2.0


BIG = torch.zeros(4)
Q = f"base_model.model.{LAYER}.q_proj.lora"


# The same by the tensors. A change is a name and its new tensor, or None to leave it out.
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({f"{Q}_magnitude_vector": BIG}, "DoRA"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": BIG}, "LoRA on embeddings"),
        ({"base_model.model.lm_head.lora_A.weight": BIG}, "output head.*leave lm_head out"),
        ({"base_model.model.lm_head.weight": BIG}, "output head"),
        ({"base_model.model.model.embed_tokens.weight": BIG}, "whole tensors.*train LoRA alone"),
        ({"base_model.model.model.layers.0.mlp.experts.lora_A.weight": BIG}, "experts"),
        ({"base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight": BIG}, "experts"),
        ({f"{Q}_B.bias": BIG}, "lora_bias=False"),
        ({f"{Q}_C.weight": BIG}, "expected base_model.model.MODULE.lora_A.weight"),
        ({f"model.{LAYER}.q_proj.lora_A.weight": BIG}, "expected base_model.model"),
        ({f"{Q}_A.other.weight": BIG}, "expected base_model.model"),
        ({f"{Q}_A.default.weight": torch.zeros(8, 64)}, "twice under two names"),
        ({f"{Q}_A.weight".replace("q_proj", "qq_proj"): BIG}, "no linear.*qq_proj.*another model"),
        ({f"{Q}_A.weight".replace(".1.", ".3."): BIG}, "no linear model.layers.3"),
        ({f"{Q}_B.weight": None}, f"lora_B of {LAYER}.q_proj is missing"),
        ({f"{Q}_A.weight": None}, f"lora_A of {LAYER}.q_proj is missing"),
        ({f"{Q}_A.weight": None, f"{Q}_B.weight": None}, f"{LAYER}.q_proj: tensors are missing,"),
        ({f"{Q}_A.weight": torch.zeros(8, 65)}, r"lora_A.*\(8, 65\).*want \(8, 64\)"),
        ({f"{Q}_B.weight": torch.zeros(64, 7)}, r"lora_B.*\(64, 7\)"),
        ({f"{Q}_B.weight": torch.zeros(64 * 8)}, r"lora_B.*\(512,\)"),
        ({f"{Q}_A.weight": torch.full((8, 64), torch.nan)}, "lora_A.*NaN or infinite"),
        ({f"{Q}_B.weight": torch.full((64, 8), torch.inf).half()}, "lora_B.*NaN or infinite"),
        ({f"{Q}_B.weight": torch.zeros((64, 8), dtype=torch.int8)}, "lora_B.*I8; supported"),
        ({f"{Q}_B.weight": torch.zeros((64, 8), dtype=torch.float64)}, "'F64' is not supported"),
        ({f"{Q}_B.weight": torch.zeros((64, 8, 9999))}, "bytes, an adapter of this model has"),
    ],
)  # fmt: skip
def test_refused_by_its_tensors(tiny, folder, changes, match):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(ModelFileError, match=match):
        read(tiny, folder)


def test_refused_files(tiny, folder, tmp_path):
    def refused(match: str) -> None:
        with pytest.raises(ModelFileError, match=match):
            read(tiny, folder)

    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    good = weights.read_bytes()
    for end in (7, len(good) // 2, len(good) - 1):
        weights.write_bytes(good[:end])
        refused("adapter_model.safetensors")
    save_file({}, weights)
    refused("no tensors: an empty adapter")
    weights.unlink()
    refused("adapter_model.safetensors: the folder has none")
    torch.save({"a": torch.zeros(1)}, folder / "adapter_model.bin")
    refused("adapter_model.bin: pickled weights can run code.*save_pretrained")
    shutil.copy(folder / "adapter_model.bin", weights)
    refused("a zip archive")
    for text in (b"", b"[]", b"{", b'{"r": NaN}', b'{"r": 1, "r": 2}', b" " * (1 << 20) + b"{}"):
        config.write_bytes(text)
        refused("adapter_config.json")
    config.unlink()
    refused("adapter_config.json: the folder has none; give one that PEFT")
    with pytest.raises(ModelFileError, match="adapter_config.json: the folder has none"):
        open_adapter(tmp_path / "nowhere", {})


def test_an_adapter_of_another_model(tinies, folder):
    with pytest.raises(ModelFileError, match="the base model and rank 8 of"):
        read(tinies["qwen3"], folder)
    with pytest.raises(ModelFileError, match=r"layers.3.*tensors are missing \(and 6 more\)"):
        read(tinies["gemma3"], folder)
    shapes = adapter_shapes(tinies["llama"].config)
    with pytest.raises(ModelFileError, match="no linear model.layers.2"):
        open_adapter(folder, {name: shape for name, shape in shapes.items() if ".2." not in name})


def test_config_of_the_newest_peft_is_ignored_where_unknown(tiny, folder):
    edit_config(folder, some_new_setting={"a": 1}, peft_version="9.9")
    assert len(read(tiny, folder).parts) == 21
    settings = json.loads((folder / "adapter_config.json").read_text())
    for name in ("lora_alpha", "r"):
        del settings[name]
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert read(tiny, folder).parts[f"{LAYER}.q_proj"].scale == 1.0  # PEFT's defaults, 8 / 8
