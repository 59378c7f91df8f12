"""Damaged model files and odd step inputs against a sanitised build of the extension.

python -m tests.long.sanitized NATIVE.so [COUNT]   (run by `make test-long`)

Every file must be refused with a ModelFileError or RequestError, or load and step; ASan and UBSan
end the process at the first bad access. Prints one line of JSON.
"""

import importlib.util
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from firefront.core.errors import FirefrontError
from tests.random_checkpoint import SCALES
from tests.weights.damage import damaged_files

DTYPES = (*SCALES, "F16", "BF16", "F32")


def use_native(path: str) -> None:
    """Import the extension from a file, in place of the installed one."""
    name = "firefront.backends.cpu._native"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    import firefront.backends.cpu

    firefront.backends.cpu._native = module  # type: ignore[attr-defined]


def try_file(path: Path, isa: str, rng: np.random.Generator) -> str:
    from firefront.backends.cpu.executor import load
    from tests.backends.test_cpu_executor import deployment
    from tests.steps import interleaved_steps, sampler_rows

    try:
        executor = load(path, deployment(), isa=isa)
    except FirefrontError as error:
        return type(error).__name__
    tokens = [rng.integers(0, executor.vocab_size, n).astype(np.int32) for n in (37, 20)]
    for inputs, places in interleaved_steps(tokens, rng):
        rows = sampler_rows(len(places), temperature=0.8, top_p=0.9, num_logprobs=3)
        executor.step(inputs, rows)
    return "ran"


def fuzz_steps(isa: str, count: int, rng: random.Random) -> Counter[str]:
    """Valid steps with one value replaced: refused, or run without a bad access."""
    from dataclasses import replace

    from tests.backends.test_cpu_executor import cpu_executor
    from tests.random_checkpoint import random_checkpoint
    from tests.steps import interleaved_steps, sampler_rows

    outcomes: Counter[str] = Counter()
    executor = cpu_executor(random_checkpoint(DTYPES), isa)
    numpy_rng = np.random.default_rng(0)
    fields = (
        "token_ids positions slot_mapping cu_seqlens seq_lens block_tables logit_rows".split()
    )
    done = 0
    while done < count:
        tokens = [numpy_rng.integers(0, 203, 50).astype(np.int32) for _ in range(2)]
        for inputs, places in interleaved_steps(tokens, numpy_rng):
            name = rng.choice(fields)
            array = getattr(inputs, name).copy()
            flat = array.reshape(-1)
            flat[rng.randrange(flat.size)] = rng.choice([-1, 0, 5, 2**31 - 1, -(2**31), 24, 384])
            kwargs = {}
            if rng.random() < 0.3:
                field = rng.choice(["target", "history_start", "bias_len", "mask_row"])
                kwargs[field] = rng.choice([-(2**31), 2**31 - 1, 7])
            try:
                executor.step(
                    replace(inputs, **{name: array}), sampler_rows(len(places), **kwargs)
                )
                outcomes["ran"] += 1
            except ValueError:
                outcomes["refused"] += 1
            done += 1
    return outcomes


def main() -> None:
    use_native(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    from firefront.backends.cpu import _native

    result: dict[str, dict[str, int]] = {}
    for isa in _native.isas():
        outcomes: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for name, content in damaged_files(count):
                path = Path(folder) / name
                if path.suffix == ".safetensors":
                    path = folder_for(Path(folder), path.stem, content)
                else:
                    path.write_bytes(content)
                outcomes[try_file(path, isa, np.random.default_rng(0))] += 1
        result[isa] = dict(outcomes)
        result[f"{isa} steps"] = dict(fuzz_steps(isa, 300, random.Random(0)))
    print(json.dumps(result))


def folder_for(parent: Path, name: str, content: bytes) -> Path:
    """A Hugging Face folder around damaged safetensors."""
    from tests.weights.crafted import hf_folder

    (parent / name).mkdir()
    folder = hf_folder(parent / name)
    (folder / "model.safetensors").write_bytes(content)
    return folder


if __name__ == "__main__":
    main()
