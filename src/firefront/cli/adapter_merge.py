"""`firefront adapters merge`: an adapter's change put into its base's weights, and what that costs.

The result appears by one rename, after it was compared with the adapter beside its base.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firefront.engine.parity import Parity
    from firefront.weights.merge import Dtype

REPORT = "parity.json"
TEXT = (
    "Dear Ms Okafor,\n\nthank you for your letter of the third of March about order 48-1177. The "
    "parcel left our warehouse in Rotterdam on Monday and should have reached you by Thursday; the "
    "carrier says that it was held at the border for two days because a form was missing. We have "
    "sent the form and expect delivery before the end of the week. If it has not come by then, "
    "please write again and we will send another at no cost.\n\n"
    "```python\ndef total(prices: list[float], rate: float = 0.21) -> float:\n"
    '    """What is to be paid, tax included."""\n'
    "    return round(sum(prices) * (1 + rate), 2)\n```\n\n"
    '{"order": "48-1177", "items": [{"name": "kettle", "price": 39.5}], "status": "delayed"}\n\n'
    "Question: What is 17 times 23? Answer: 17 times 20 is 340, 17 times 3 is 51, together 391.\n"
    "Question: Which river runs through Paris? Answer: The Seine.\n"
)


@dataclass(frozen=True)
class Merge:
    """What is to be merged, and into what."""

    name: str  # as BASE:NAME
    base: Path
    adapter: Path
    output: Path
    format: str
    dtype: "Dtype"


def merge(wanted: Merge, text: str) -> dict[str, Any]:
    """Write it, compare, show it. RequestError where merging would lose the adapter."""
    from firefront.core.errors import RequestError

    output = wanted.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RequestError(
            f"--output {output}: exists; name a folder that does not", param="output"
        )
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        model = _write(wanted, partial)
        parity = _compare(wanted, model, text)
        report = _report(wanted, parity)
        (partial / REPORT).write_text(json.dumps(report, indent=2) + "\n")
        if parity.is_lost:
            raise RequestError(
                f"{wanted.name}: merging in {wanted.dtype.lower()} loses the adapter: KL "
                f"{parity.kl_merged:.1e} from what it says, and the base alone is at "
                f"{parity.kl_base:.1e}; merge with --dtype f32, or serve the adapter beside its "
                "base",
                param="dtype",
            )
        if output.exists():
            output.rmdir()
        partial.rename(output)
    except OSError as error:
        raise RequestError(f"--output {output}: {error.strerror}", param="output") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _write(wanted: Merge, folder: Path) -> Path:
    """The merged model in `folder`; the path to load it from."""
    from firefront.core.errors import RequestError
    from firefront.text.tokenizer_out import write_tokenizer
    from firefront.weights.adapter import open_adapter
    from firefront.weights.adapter_store import read_template
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.layout import adapter_shapes
    from firefront.weights.merge import merge_to_folder, merge_to_gguf

    template = read_template(wanted.adapter)
    with open_checkpoint(wanted.base) as checkpoint:
        adapter = open_adapter(wanted.adapter, adapter_shapes(checkpoint.config))
        if wanted.format == "safetensors":
            merge_to_folder(checkpoint, adapter, folder, wanted.dtype)
            write_tokenizer(checkpoint, folder, template)
            return folder
        if checkpoint.kind != "gguf":
            raise RequestError(
                "--format gguf: the base is a folder of safetensors; merge it as such, then use "
                "llama.cpp's convert_hf_to_gguf.py",
                param="format",
            )
        file = folder / f"{wanted.name.replace(':', '-')}.gguf"
        merge_to_gguf(checkpoint, adapter, file, wanted.dtype, template)
        return file


def _compare(wanted: Merge, model: Path, text: str) -> "Parity":
    import numpy as np

    from firefront.core.errors import RequestError
    from firefront.engine.parity import compare
    from firefront.text.tokenizer import load_tokenizer

    token_ids = np.array(load_tokenizer(wanted.base).encode(text), np.int32)
    if len(token_ids) < 2:
        raise RequestError("--text: has no text to compare on", param="text")
    return compare(wanted.base, wanted.adapter, model, token_ids)


def _report(wanted: Merge, parity: "Parity") -> dict[str, Any]:
    import msgspec

    return {
        "adapter": wanted.name,
        "output": str(wanted.output),
        "format": wanted.format,
        "dtype": wanted.dtype.lower(),
        **msgspec.structs.asdict(parity),
    }
