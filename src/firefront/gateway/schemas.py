"""What the endpoints accept: types and documentation of each field, and what is refused by name.

Ranges are SamplingParams' business, meaning is render's. Invariant: a field is either here, refused
with a 400 because leaving it out would change the answer, or reported as ignored.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from firefront.core.errors import RequestError

_PATH = re.compile(r" - at `(\$[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")


def _doc(text: str, **schema: Any) -> Meta:
    return Meta(description=text, extra_json_schema=schema or None)


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: Annotated[bool, _doc("a last chunk with usage and no choices")] = False
    continuous_usage_stats: Annotated[bool, _doc("usage so far in every chunk")] = False


class GenerationRequest(msgspec.Struct, kw_only=True):
    """Fields that chat and completions share."""

    model: Annotated[str, _doc("a name that /v1/models lists")]
    max_tokens: Annotated[int | None, _doc("most tokens to generate, for each choice")] = None
    temperature: Annotated[float | None, _doc("0 is greedy; 1 if absent")] = None
    top_p: Annotated[float | None, _doc("likeliest tokens up to this probability")] = None
    top_k: Annotated[int | None, _doc("likeliest tokens up to this number; 0 or -1: all")] = None
    min_p: Annotated[float | None, _doc("drop tokens below this share of the likeliest")] = None
    n: Annotated[int | None, _doc("choices for each prompt, at most 8")] = None
    seed: Annotated[int | None, _doc("same seed, same request: same tokens")] = None
    stop: Annotated[str | list[str] | None, _doc("up to 16 strings that end a choice")] = None
    stop_token_ids: Annotated[list[int] | None, _doc("tokens that end a choice")] = None
    include_stop_str_in_output: Annotated[bool | None, _doc("keep the stop string")] = None
    ignore_eos: Annotated[bool | None, _doc("go on past the model's end of text")] = None
    min_tokens: Annotated[int | None, _doc("no end before so many tokens")] = None
    skip_special_tokens: Annotated[bool | None, _doc("leave control tokens out of text")] = None
    presence_penalty: Annotated[float | None, _doc("-2 to 2, once for each token said")] = None
    frequency_penalty: Annotated[float | None, _doc("-2 to 2, each time it was said")] = None
    repetition_penalty: Annotated[float | None, _doc("over 1 discourages; also the prompt")] = None
    logit_bias: Annotated[dict[str, float] | None, _doc("token id to -100..100")] = None
    allowed_token_ids: Annotated[list[int] | None, _doc("choose only among these tokens")] = None
    stream: Annotated[bool | None, _doc("server-sent events as tokens come")] = None
    stream_options: StreamOptions | None = None


class Message(msgspec.Struct, kw_only=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        str | list[dict[str, Any]] | None, _doc('text, or parts {"type": "text", "text": ...}')
    ] = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Prediction(msgspec.Struct, kw_only=True):
    """Text that much of the answer will be a copy of."""

    type: Literal["content"]
    content: Annotated[
        str | list[dict[str, Any]], _doc('text, or parts {"type": "text", "text": ...}')
    ]


class ChatRequest(GenerationRequest, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: Annotated[int | None, _doc("as max_tokens, the newer name")] = None
    logprobs: Annotated[bool | int | None, _doc("log-probability of each token")] = None
    top_logprobs: Annotated[int | None, _doc("and of the likeliest others, up to 20")] = None
    prediction: Annotated[
        Prediction | None, _doc("an expected answer: the same tokens, sooner where it is right")
    ] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, _doc("values for the template")] = None


class CompletionRequest(GenerationRequest, kw_only=True):
    """POST /v1/completions."""

    prompt: Annotated[
        Any,
        _doc(
            "text, a list of texts, token ids, or a list of lists of token ids",
            oneOf=[
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ],
        ),
    ]
    logprobs: Annotated[int | None, _doc("log-probabilities of so many likeliest tokens")] = None
    echo: Annotated[bool | None, _doc("the prompt first, with logprobs if asked")] = None


_Request = TypeVar("_Request", bound=GenerationRequest)
Refusal = tuple[Callable[[Any, dict[str, Any]], bool], str]


def _given(value: Any, body: dict[str, Any]) -> bool:
    return value not in (None, False, [], {}, "")


def _tools_wanted(value: Any, body: dict[str, Any]) -> bool:
    return bool(value) and body.get("tool_choice") != "none"


def _functions_wanted(value: Any, body: dict[str, Any]) -> bool:
    return bool(value) and body.get("function_call") != "none"


def _not_text(value: Any, body: dict[str, Any]) -> bool:
    return value is not None and not (isinstance(value, dict) and value.get("type") == "text")


def _not_only_text(value: Any, body: dict[str, Any]) -> bool:
    return value not in (None, [], ["text"])


def _not_n(value: Any, body: dict[str, Any]) -> bool:
    return value is not None and value != (body.get("n") or 1)


def _not_true(value: Any, body: dict[str, Any]) -> bool:
    return value is False


_NOT_YET = "is not supported yet"
# Parameters that would change the answer: refused, never ignored.
REFUSED: dict[str, Refusal] = {
    "tools": (_tools_wanted, f'{_NOT_YET}; leave it out or set tool_choice to "none"'),
    "functions": (_functions_wanted, f"{_NOT_YET}; leave it out"),
    "response_format": (_not_text, f'{_NOT_YET} but for {{"type": "text"}}'),
    "modalities": (_not_only_text, "can only be text"),
    "audio": (_given, _NOT_YET),
    "add_generation_prompt": (_not_true, "can only be true"),
    "continue_final_message": (_given, _NOT_YET),
    "chat_template": (_given, "is the model's own; another cannot be sent"),
    "suffix": (_given, _NOT_YET),
    "best_of": (_not_n, "must equal n"),
    "use_beam_search": (_given, _NOT_YET),
    "prompt_embeds": (_given, _NOT_YET),
    "prompt_logprobs": (_given, "use /v1/completions with echo and logprobs"),
    "truncate_prompt_tokens": (_given, "nothing is truncated here; shorten the prompt"),
    "bad_words": (_given, _NOT_YET),
    "allowed_token_ids": (_given, _NOT_YET),
    "logits_processors": (_given, _NOT_YET),
    **dict.fromkeys(
        (
            "structured_outputs",
            "guided_json",
            "guided_regex",
            "guided_choice",
            "guided_grammar",
            "grammar",
            "json_schema",
        ),
        (_given, _NOT_YET),
    ),
}


def parse(body: dict[str, Any], kind: type[_Request]) -> tuple[_Request, list[str]]:
    """The request in `body`, and the names of what was ignored in it.

    Raises RequestError naming the field that is of the wrong type, missing or refused.
    """
    known = set(kind.__struct_fields__)
    for name in REFUSED.keys() & body.keys() - known:
        refuses, why = REFUSED[name]
        if refuses(body[name], body):
            raise RequestError(f"{name}: {why}", param=name, code="unsupported_parameter")
    if kind is ChatRequest and body.get("echo"):
        message = "echo: only on /v1/completions"
        raise RequestError(message, param="echo", code="unsupported_parameter")
    try:
        request = msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise _field_error(str(error)) from None
    except (OverflowError, RecursionError):
        raise RequestError("a number in the body is out of all range") from None
    ignored = sorted(body.keys() - known)
    if "messages" in known:
        ignored += _ignored_in_messages(body)
    return request, ignored


def _ignored_in_messages(body: dict[str, Any]) -> list[str]:
    known = set(Message.__struct_fields__)
    keys = {key for message in body.get("messages") or () for key in message.keys() - known}
    return [f"messages[].{key}" for key in sorted(keys)]


def _field_error(text: str) -> RequestError:
    if missing := _MISSING.match(text):
        path = _PATH.search(text)
        name = f"{path[1][2:]}.{missing[1]}" if path and path[1] != "$" else missing[1]
        return RequestError(f"{name}: is required", param=name)
    path = _PATH.search(text)
    if path is None:
        return RequestError(text)
    param = path[1].removeprefix("$").removeprefix(".")[:100]
    return RequestError(f"{param}: {text[: path.start()]}", param=param)
