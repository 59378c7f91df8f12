"""Parts of a grammar in llguidance's Lark notation, and how they become one source.

Knows nothing of what the parts are for. Their makers keep names of rules and terminals apart.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """`expression` is what a rule says to have this part; `definitions` are the lines it needs;
    `grammars` are whole grammars by name, which the expression mentions as @name."""

    expression: str
    definitions: str = ""
    grammars: tuple[tuple[str, str], ...] = ()


def grammar_source(start: str, rules: Sequence[Rules]) -> str:
    """The grammar whose `start` rule is this expression over the parts' definitions."""
    lines = ["%llguidance {}", f"start: {start}", *(part.definitions for part in rules)]
    text = "\n".join(line for line in lines if line) + "\n"
    grammars = [grammar for part in rules for grammar in part.grammars]
    if not grammars:
        return text
    named = [{"name": name, "lark_grammar": source} for name, source in grammars]
    return json.dumps({"grammars": [{"name": "answer", "lark_grammar": text}, *named]})
