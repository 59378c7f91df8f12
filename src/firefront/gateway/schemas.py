"""From a parsed body to a typed request: what is refused by name, what is reported as ignored.

Invariant: a field is either one of the request's, refused with a 400 because leaving it out would
change the answer, or reported as ignored.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from firefront.core.errors import RequestError

_PATH = re.compile(r" - at `(\$[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_Request = TypeVar("_Request", bound=msgspec.Struct)
Refusal = tuple[Callable[[Any], bool], str]


def given(value: Any) -> bool:
    """Whether a value of this kind asks for anything."""
    return value not in (None, False, [], {}, "")


def _not_one(value: Any) -> bool:
    return value not in (None, 1, 1.0)


_NOT_HERE = "is not supported"
# Parameters that would change the answer: refused, never ignored.
REFUSED: dict[str, Refusal] = {
    "web_search_options": (given, f"{_NOT_HERE}; call a tool of your own"),
    "moderation": (given, _NOT_HERE),
    "chat_template": (given, "is the model's own; another cannot be sent"),
    "use_beam_search": (given, _NOT_HERE),
    "prompt_embeds": (given, _NOT_HERE),
    "prompt_logprobs": (given, "use /v1/completions with echo and logprobs"),
    "bad_words": (given, f"{_NOT_HERE}; use logit_bias"),
    "logits_processors": (given, _NOT_HERE),
    "typical_p": (_not_one, f"{_NOT_HERE}; use min_p"),
    "mirostat": (given, f"{_NOT_HERE}; use min_p"),
    "mirostat_target": (given, f"{_NOT_HERE}; use min_p"),
    "mirostat_lr": (given, f"{_NOT_HERE}; use min_p"),
    "echo": (given, "only on /v1/completions"),
    "echo_last": (given, _NOT_HERE),
    "raw_output": (given, f"{_NOT_HERE}; return_token_ids gives the tokens"),
    "structural_tag": (given, f"{_NOT_HERE}; use tools"),
}


def parse(body: dict[str, Any], kind: type[_Request]) -> tuple[_Request, list[str]]:
    """The request in `body`, and the names of what was ignored in it.

    Raises RequestError naming the field that is of the wrong type, missing or refused.
    """
    known, refusals = _fields_of(kind)
    for name in refusals.keys() & body.keys() - known:
        refuses, why = refusals[name]
        if refuses(body[name]):
            raise RequestError(f"{name}: {why}", param=name, code="unsupported_parameter")
    try:
        request = msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise _field_error(str(error)) from None
    except (OverflowError, RecursionError):
        raise RequestError("a number in the body is out of all range") from None
    ignored = sorted(body.keys() - known)
    for name, inner in getattr(kind, "nested", {}).items():
        fields = set(inner.__struct_fields__)
        value = body.get(name) or ()
        items, prefix = ([value], name) if isinstance(value, dict) else (value, f"{name}[]")
        keys = {key for item in items for key in item.keys() - fields}
        ignored += [f"{prefix}.{key}" for key in sorted(keys)]
    return request, ignored


@functools.cache
def _fields_of(kind: type[msgspec.Struct]) -> tuple[frozenset[str], dict[str, Refusal]]:
    """The fields that are known, and what else is refused under some condition."""
    return frozenset(kind.__struct_fields__), {**REFUSED, **getattr(kind, "refused", {})}


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
