"""A request's constraint as rules of a grammar: JSON of a schema, a pattern, one of some texts.

Owns how JSON is spelled. Invariant: JSON has no white space but the one place after a comma and a colon,
so a model cannot go on writing white space for ever.
"""

import json
import re
from typing import Any

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.text.rules import Rules
from firefront.text.schema_check import Checked, checked_schema

# As Python's json.dumps writes it, which is how models have seen the arguments of calls and most
# JSON in a line. It leaves the model nothing to choose but values: what is between them is forced.
SPELLING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MAX_GRAMMAR_BYTES = 128 << 10
# GBNF is translated in our process, by work that grows with the square of its rules.
MAX_GBNF_BYTES = 32 << 10
MAX_GBNF_RULES = 256
_NAME = "CONSTRAINT"
_GBNF_RULE = re.compile(r"^[ \t]*[\w-]+[ \t]*::=", re.MULTILINE)


def constraint_rules(constraint: Constraint) -> Rules:
    """Rules of the one thing that the text may be; RequestError if that cannot be honoured.

    May take a moment for a large constraint: not for an event loop.
    """
    value, param = constraint.value, constraint.param
    match constraint.kind:
        case "json_object":
            return Rules(json_expression(Checked({"type": "object"})))
        case "json_schema":
            return Rules(json_expression(checked_schema(value, param)))
        case "regex":
            _check_size(value, MAX_GRAMMAR_BYTES, param)
            return Rules(_NAME, f"{_NAME}: {regex_expression(value)}")
        case "choice":
            _check_size("".join(value), MAX_GRAMMAR_BYTES, param)
            return Rules(_NAME, f"{_NAME}: {' | '.join(map(json.dumps, dict.fromkeys(value)))}")
        case "grammar":
            return Rules("@constraint", grammars=(("constraint", _lark(value, param)),))


def json_expression(checked: Checked) -> str:
    """What stands for JSON of a schema in a rule."""
    options: dict[str, Any] = dict(SPELLING)
    if checked.one_of_is_exact:  # then any of its alternatives is as good
        options["coerce_one_of"] = True
    return f"%json {json.dumps({**checked.schema, 'x-guidance': options})}"


def regex_expression(pattern: str) -> str:
    """A pattern, which all of the text must match, as a terminal."""
    from llguidance import regex_to_lark

    inner = regex_to_lark(_unanchored(pattern), "d").replace("\n", r"\n")
    return f"/{inner}/" if inner else '""'


def _unanchored(pattern: str) -> str:
    """The pattern without the anchors around its alternatives, which say nothing new."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\":
            i += 1
        elif char == "[":
            i = _end_of_class(pattern, i)
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            parts.append(pattern[start:i])
            start = i + 1
        i += 1
    parts.append(pattern[start:])
    return "|".join(map(_trimmed, parts))


def _trimmed(part: str) -> str:
    part = part.removeprefix("^").removeprefix(r"\A")
    for anchor in ("$", r"\z", r"\Z"):
        kept = part.removesuffix(anchor)
        num_escapes = len(kept) - len(kept.rstrip("\\"))
        if kept != part and num_escapes % 2 == 0:
            return kept
    return part


def _end_of_class(pattern: str, start: int) -> int:
    """The index of the bracket that closes the class which opens at `start`."""
    i = start + 1
    if pattern[i : i + 1] == "^":
        i += 1
    if pattern[i : i + 1] == "]":  # the first one is a character
        i += 1
    while i < len(pattern) and pattern[i] != "]":
        i += 2 if pattern[i] == "\\" else 1
    return i


def _lark(source: str, param: str) -> str:
    """A grammar in Lark's notation; GBNF is translated."""
    rules = _GBNF_RULE.findall(source)
    if not rules:
        _check_size(source, MAX_GRAMMAR_BYTES, param)
        return source
    _check_size(source, MAX_GBNF_BYTES, param)
    if len(rules) > MAX_GBNF_RULES:
        raise RequestError(
            f"{param}: a GBNF grammar may have {MAX_GBNF_RULES} rules, this has {len(rules)}; "
            "one in Lark's notation may have more",
            param=param,
        )
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return gbnf_to_lark(source)
    except Exception as error:  # it raises whatever comes
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(f"{param}: not a GBNF grammar: {reason[:300]}", param=param) from None


def _check_size(text: str, most: int, param: str) -> None:
    num_bytes = len(text.encode("utf-8", "surrogatepass"))
    if num_bytes > most:
        raise RequestError(
            f"{param}: it has {num_bytes} bytes, at most {most} are taken", param=param
        )
