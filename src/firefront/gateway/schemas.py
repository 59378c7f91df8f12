"""From a parsed body to a typed request: what is refused by name, what is reported as ignored.

Invariant: a field is either one of the request's, refused with a 400 because leaving it out would change
the answer, or reported as ignored.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from firefront.core.errors import RequestError

_PATH = re.compile(r" - at `(\$[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_Request = TypeVar("_Request", bound=msgspec.Struct)
Refusal = tuple[Callable[[Any], bool], str]


def _given(value: Any) -> bool:
    return value not in (None, False, [], {}, "")


def _not_one(value: Any) -> bool:
    return value not in (None, 1, 1.0)


_NOT_HERE = "is not supported"
# Parameters that would change the answer: refused, never ignored.
REFUSED: dict[str, Refusal] = {
    "audio": (_given, _NOT_HERE),
    "web_search_options": (_given, f"{_NOT_HERE}; call a tool of your own"),
    "moderation": (_given, _NOT_HERE),
    "chat_template": (_given, "is the model's own; another cannot be sent"),
    "use_beam_search": (_given, _NOT_HERE),
    "prompt_embeds": (_given, _NOT_HERE),
    "prompt_logprobs": (_given, "use /v1/completions with echo and logprobs"),
    "bad_words": (_given, f"{_NOT_HERE}; use logit_bias"),
    "logits_processors": (_given, _NOT_HERE),
    "typical_p": (_not_one, f"{_NOT_HERE}; use min_p"),
    "mirostat": (_given, f"{_NOT_HERE}; use min_p"),
    "mirostat_target": (_given, f"{_NOT_HERE}; use min_p"),
    "mirostat_lr": (_given, f"{_NOT_HERE}; use min_p"),
    "echo": (_given, "only on /v1/completions"),
    "echo_last": (_given, _NOT_HERE),
    "raw_output": (_given, f"{_NOT_HERE}; return_token_ids gives the tokens"),
    "structural_tag": (_given, f"{_NOT_HERE}; use tools"),
    "guided_decoding_backend": (lambda value: False, ""),  # ours, whatever is named
}
UNIMPORTANT = frozenset({"guided_decoding_backend"})


def parse(body: dict[str, Any], kind: type[_Request]) -> tuple[_Request, list[str]]:
    """The request in `body`, and the names of what was ignored in it.

    Raises RequestError naming the field that is of the wrong type, missing or refused.
    """
    known = set(kind.__struct_fields__)
    refusals = {**REFUSED, **getattr(kind, "refused", {})}
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
    ignored = sorted(body.keys() - known - UNIMPORTANT)
    for name, inner in getattr(kind, "nested", {}).items():
        fields = set(inner.__struct_fields__)
        keys = {key for item in body.get(name) or () for key in item.keys() - fields}
        ignored += [f"{name}[].{key}" for key in sorted(keys)]
    return request, ignored


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
