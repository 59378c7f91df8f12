"""The body of POST /v1/completions, and the prompts in it."""

from typing import Annotated, Any

from firefront.core.errors import RequestError
from firefront.core.sampling import MAX_N
from firefront.gateway.fields import GenerationRequest, doc

MAX_PROMPTS = 256


class CompletionRequest(GenerationRequest, kw_only=True):
    """POST /v1/completions."""

    prompt: Annotated[
        Any,
        doc(
            "text, a list of texts, token ids, or a list of lists of token ids",
            oneOf=[
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ],
        ),
    ]
    suffix: Annotated[
        str | None, doc("what comes after: for models trained to fill in the middle")
    ] = None
    logprobs: Annotated[int | None, doc("log-probabilities of so many likeliest tokens")] = None
    echo: Annotated[bool | None, doc("the prompt first, with logprobs if asked")] = None
    best_of: Annotated[int | None, doc("generate so many, give the n likeliest a token")] = None

    def num_sequences(self) -> int:
        """Choices to generate for each prompt: `best_of`, at least n."""
        n = 1 if self.n is None else self.n
        best_of = self.best_of
        if not best_of or best_of == n:
            return n
        if not n <= best_of <= MAX_N:
            raise RequestError(f"best_of: must be n to {MAX_N}, got {best_of}", param="best_of")
        if self.stream:
            raise RequestError(
                "best_of: the best are known at the end; leave out stream", param="best_of"
            )
        return best_of


def prompts_of(prompt: Any) -> list[str | list[int]]:
    """The four shapes of `prompt` as a list of texts and token lists."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(type(item) is int for item in prompt):
            return [prompt]
        if len(prompt) > MAX_PROMPTS:
            raise RequestError(f"prompt: at most {MAX_PROMPTS} at once", param="prompt")
        if all(isinstance(item, str) for item in prompt):
            return prompt
        if all(isinstance(item, list) and all(type(t) is int for t in item) for item in prompt):
            return prompt
    raise RequestError(
        "prompt: must be text, a list of texts, token ids, or a list of lists of token ids",
        param="prompt",
    )
