"""What a reasoning model thinks before it answers, between two markers.

Owns reading it, and the grammar that gives it room, an end after so many tokens, or no room at all.
Knows no templates. Invariant: a thought comes before everything else or not at all.
"""

import re
from dataclasses import dataclass

from firefront.core.chat import Thinking
from firefront.text.answer_events import AnswerEvents
from firefront.text.incoming import Incoming, Steps
from firefront.text.rules import Rules
from firefront.text.tools.format import FREE_TEXT, Marker, quoted

MARKERS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
_AFTER = r"AFTER_THOUGHT: /\n{1,2}/"


def is_off(thinking: Thinking) -> bool:
    """Whether there should be no thought at all."""
    return thinking.enabled is False or thinking.budget == 0


@dataclass(frozen=True)
class ThoughtFormat:
    """The markers as the model's vocabulary has them."""

    open: Marker
    close: Marker

    @property
    def is_control(self) -> bool:
        return self.open.is_control or self.close.is_control

    def opened_by(self, prompt_tail: str) -> bool:
        """Whether the prompt ends in a thought that has just begun."""
        return prompt_tail.rstrip().endswith(self.open.text)

    def read(self, text: Incoming, out: AnswerEvents, *, inside: bool) -> Steps[None]:
        """Read a thought if there is one. `inside`: the prompt has opened it."""
        text.record()
        yield from text.spaces()
        is_opened = yield from text.literal(self.open.text)
        consumed = text.recorded()
        if not is_opened and not inside:
            out.content(consumed)
            return
        if is_opened:
            yield from text.newlines()
        elif consumed.strip("\r\n"):
            out.reasoning(consumed.lstrip("\r\n"))
        if (yield from text.until((self.close.text,), out.reasoning)):
            out.end_reasoning()
            yield from text.newlines()

    def rules(self, thinking: Thinking, *, inside: bool) -> Rules:
        """What stands before the answer. Without any limit: any thought, or none."""
        if is_off(thinking):
            return Rules(f'{self.close.lark} "\\n\\n"' if inside else "")
        body = self._body(thinking.budget)
        lines = [body.definitions, _AFTER]
        thought = f"{body.expression} AFTER_THOUGHT?"
        if not inside:
            opening = self.open.lark
            if self.open.id is None:
                opening = "think_open"
                # Lazy, or it would be taken for the beginning of a longer text.
                lines.append(f"think_open[lazy]: {quoted(self.open.text)}")
            thought = f"( {opening} {thought} )?"
        return Rules(thought, "\n".join(lines), body.grammars)

    def unopened(self) -> Rules:
        """Any text but one that begins with a thought."""
        if self.open.is_control:
            return Rules(FREE_TEXT)
        opened = f'/[ \\t\\r\\n]*/ {quoted(self.open.text)} {FREE_TEXT}'
        return Rules("UNOPENED", f"UNOPENED: {FREE_TEXT} & ~( {opened} )")

    def _body(self, budget: int | None) -> Rules:
        """The thought from its first character to its end marker."""
        limit = "" if budget is None else f"[max_tokens={budget}]"
        if self.close.is_control:
            return Rules(f"thought {self.close.lark}", f"thought{limit}: {FREE_TEXT}")
        if not limit:
            return Rules("thought", f"thought[lazy]: {FREE_TEXT} {quoted(self.close.text)}")
        # Cut off, its end comes next: the model writes it in its own token.
        end = quoted(self.close.text)
        if self.close.id is not None:
            end = f"( {end} | {self.close.lark} )"
        return Rules(
            f"thought {end}",
            f"thought{limit}: @thought_text",
            (("thought_text", _text_before(self.close.text)),),
        )


def _text_before(word: str) -> str:
    """A grammar of text without `word`, in pieces each of which may be the last before it: so the
    text can be cut anywhere and `word` still come next. The word's first character comes once."""
    first, others = re.escape(word[0]), ""
    for char in reversed(word[1:-1]):
        others = f"({re.escape(char)}{others})?"
    other, part = _regex(f"[^{first}]+"), _regex(f"{first}{others}")
    return f"start: ( OTHER | PART )*\nOTHER: {other}\nPART: {part}\n"


def _regex(pattern: str) -> str:
    return f"/{pattern.replace('/', chr(92) + '/')}/"
