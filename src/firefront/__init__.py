"""firefront: generative AI on your own hardware.

`LLM` runs a model inside this process. Importing the package is cheap: what needs numpy or a
model's files is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firefront.core.sampling import SamplingParams
    from firefront.llm import LLM, CompletionOutput, Logprob, RequestOutput

__all__ = ["LLM", "CompletionOutput", "Logprob", "RequestOutput", "SamplingParams"]

_MODULE_OF = {
    "LLM": "firefront.llm",
    "CompletionOutput": "firefront.llm",
    "Logprob": "firefront.llm",
    "RequestOutput": "firefront.llm",
    "SamplingParams": "firefront.core.sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'firefront' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
