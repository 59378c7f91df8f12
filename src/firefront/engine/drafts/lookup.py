"""Drafts copied from text: what followed the last time the output's latest tokens were there.

A cursor points at the token that should come next. It follows the output while it is right and is
looked for anew, longest match first, when it is not trusted. Every decided token also judges what
the cursor said, drafted or not, so how far to trust it is learnt at no cost. O(1) a token.
"""

from collections.abc import Sequence

ORDERS = (6, 3, 2)  # lengths of the matches that are looked for, longest first
SMOOTHING = 0.15  # share of the newest observation in a rate
FRESH = 4  # trust in a new cursor: the length of its match, at most this
MOST = 32  # trust grows by 2 with every token foretold, up to this
DOUBT = 8  # after a wrong token, trust is divided by this: perhaps only one word was exchanged
PROVEN = 16  # so much trust gives hope for as many tokens as HOPE says
HOPE = 8
_LIMITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # classes of trust, each with a rate of its own
_CLASS_OF = [sum(trust >= limit for limit in _LIMITS) for trust in range(MOST + 1)]
# Rates before anything is known: a match of two tokens says little, a long run nearly all.
_RATES = (0.05, 0.15, 0.12, 0.3, 0.45, 0.65, 0.8, 0.88, 0.92, 0.95, 0.97)


class Lookup:
    """Follows an output through `fixed`, or, without that, through the sequence's own past."""

    __slots__ = (
        "_cursor", "_hope", "_indices", "_is_own", "_past", "_rates", "_text", "_trust",
        "num_right", "num_seen",
    )  # fmt: skip

    def __init__(self, fixed: Sequence[int] | None = None) -> None:
        self._past: list[int] = []
        self._is_own = fixed is None
        self._text = self._past if fixed is None else list(fixed)
        self._indices: tuple[dict[int, int], ...] = tuple({} for _ in ORDERS)
        self._rates = list(_RATES)
        self._cursor = -1  # in the text, -1 for nowhere
        self._trust = 0
        self._hope = 0
        self.num_seen = 0  # tokens of the sequence that were taken
        self.num_right = 0  # of these, tokens that the cursor had foretold
        if fixed:
            self._cursor, self._trust = 0, FRESH  # an output is expected to begin as it does
            self._index(self._text)

    def start(self, prompt: list[int]) -> None:
        """Take the tokens that were given, not decided: they judge nothing."""
        self._past += prompt[:-1]
        if self._is_own:
            self._index(self._past)
            self._append(prompt[-1])
        else:
            self._past.append(prompt[-1])
        self.num_seen = len(prompt)

    def push(self, token: int) -> None:
        """Take a token that was decided."""
        cursor = self._cursor
        if cursor >= 0:
            kind = _CLASS_OF[self._trust]
            if self._text[cursor] == token:
                self._rates[kind] += SMOOTHING * (1.0 - self._rates[kind])
                self._trust = min(MOST, self._trust + 2)
                self.num_right += 1
            else:
                self._rates[kind] -= SMOOTHING * self._rates[kind]
                self._trust = min(FRESH - 1, self._trust // DOUBT)
            self._cursor = cursor + 1
        self._append(token)
        self.num_seen += 1
        self._hope = HOPE if self._trust >= PROVEN else max(0, self._hope - 1)
        if self._cursor >= len(self._text):
            self._cursor, self._trust = -1, 0

    @property
    def is_hopeful(self) -> bool:
        """True when the next tokens may well show where the output goes on."""
        return self._hope > 0 or self._trust >= FRESH - 1

    @property
    def is_proven(self) -> bool:
        """True when the text foretold the output not long ago."""
        return self._hope > 0

    def chances(self, count: int) -> list[float]:
        """Probabilities that the first 1, 2, ... `count` drafts are all right."""
        if self._cursor < 0:
            return []
        if not self._is_own:
            count = min(count, len(self._text) - self._cursor)
        chances, chance, trust = [], 1.0, self._trust
        for _ in range(count):
            chance *= self._rates[_CLASS_OF[trust]]
            chances.append(chance)
            trust = trust + 2 if trust < MOST - 2 else MOST
        return chances

    def draft(self, count: int) -> list[int]:
        """The `count` tokens that should come next, fewer at the end of a fixed text."""
        cursor = self._cursor
        if cursor < 0:
            return []
        drafts = self._text[cursor : cursor + count]
        if self._is_own:
            period = len(self._past) - cursor
            while len(drafts) < count:  # what repeats with a short period goes on repeating
                drafts.append(drafts[-period])
        return drafts

    def _append(self, token: int) -> None:
        """Add to the past; look for a better cursor."""
        past, trust = self._past, self._trust
        past.append(token)
        if trust >= FRESH and not self._is_own:
            return
        for order, index in zip(ORDERS, self._indices, strict=True):
            if len(past) < order:
                continue
            key = hash(tuple(past[-order:]))
            if min(order, FRESH) > self._trust and (found := index.get(key)) is not None:
                self._follow(found)
            if self._is_own:
                index[key] = len(past)

    def _follow(self, cursor: int) -> None:
        """Point at `cursor` if so many tokens match before it that it is trusted more."""
        past, text = self._past, self._text
        length, most = 0, min(cursor, len(past), FRESH)
        while length < most and text[cursor - 1 - length] == past[-1 - length]:
            length += 1
        if length > self._trust:
            self._cursor, self._trust = cursor, length

    def _index(self, text: list[int]) -> None:
        """Every run of each order in `text`; of equal runs the latest."""
        for order, index in zip(ORDERS, self._indices, strict=True):
            runs = zip(*(text[i:] for i in range(order)), strict=False)
            index.update(zip(map(hash, runs), range(order, len(text) + 1), strict=False))
