"""Which drafts the next step verifies: those that are worth more than they cost.

Owns the drafts' sources and what is learnt of acceptance and step times; knows no blocks and no
clock. Invariant: drafts change how fast tokens come, never which.
"""

import logging

from firefront.engine.drafts.cost import MAX_DRAFTS, Curve, StepCost
from firefront.engine.drafts.model import MAX_SEQS as MAX_MODEL_SEQS
from firefront.engine.drafts.model import DraftModel
from firefront.engine.drafts.shadow import Shadow
from firefront.engine.drafts.texts import Texts
from firefront.engine.scheduler import Chunk, StepPlan
from firefront.engine.sequence import Sequence

MIN_CHANCE = 0.05  # drafts less likely than this are not weighed
MIN_GAIN = 1.03  # what drafts must promise: below that, guesses of cost and chance decide
CAUTIOUS_GAIN = 1.3  # and when they have lost time of late
LOSS = 0.5  # time that drafts may lose before that, in plain steps
MEMORY = 0.99  # share of gains and losses that is remembered a step later: 0.5 % at most is lost
CALL_S = 2e-4  # what it costs to come back after one plain step, to look for drafts
WANTED = 0.6  # a first draft so likely should pay; if it seems not to, the cost is doubted
PLAIN_EVERY = 64  # one step in so many goes without drafts, to keep knowing what that costs
MAX_SEQS = 64  # with more sequences a step is bound by computation: drafts cannot pay

_log = logging.getLogger(__name__)


class Speculator:
    """Draws up drafts of up to `max_draft` tokens a sequence; 0: none ever. `model`, if any, drafts
    where it promises more than the texts."""

    def __init__(self, max_draft: int, model: DraftModel | None = None) -> None:
        self._max_draft = max_draft
        self._model = model
        self._cost = StepCost()
        self._num_since_plain = 0
        self._balance_s = 0.0  # what drafts copied from texts have gained of late
        self._are_copied = False  # the running step's drafts
        self._num_right = 0  # of them
        self.is_hopeful = False  # good drafts may come after any token: look after each
        self.num_drafted = 0
        self.num_accepted = 0

    @property
    def spent_s(self) -> float:
        """Seconds that the draft model took for the last proposal."""
        return self._model.spent_s if self._model is not None else 0.0

    def propose(self, decodes: list[Sequence], budget: int) -> list[list[int]]:
        """Drafts for each decoding sequence, `budget` at most in all; often none."""
        none: list[list[int]] = [[] for _ in decodes]
        self.is_hopeful = self._are_copied = False
        if self._model is not None:
            self._model.spent_s = 0.0
        if not self._max_draft or len(decodes) > MAX_SEQS:
            return none
        texts = [self._texts(sequence) for sequence in decodes]
        budget = min(budget, MAX_DRAFTS)
        curve = self._cost.curve(len(decodes))
        is_cautious = curve is not None and self._balance_s < -LOSS * curve.seconds(0)
        self.is_hopeful = any(
            text is not None and (text.is_proven if is_cautious else text.is_hopeful)
            for text in texts
        )
        if curve is None or budget <= 0 or self._num_since_plain >= PLAIN_EVERY:
            return none
        lookups = [None if text is None else text.best for text in texts]
        offers: list[tuple[float, int]] = []  # chance of one more draft, sequence
        for idx, (sequence, lookup) in enumerate(zip(decodes, lookups, strict=True)):
            if lookup is not None:
                limit = min(budget, self._most_for(sequence))
                offers += [(c, idx) for c in lookup.chances(limit) if c >= MIN_CHANCE]
        offers.sort(reverse=True)
        min_gain = CAUTIOUS_GAIN if is_cautious else MIN_GAIN
        chances = [chance for chance, _ in offers[:budget]]
        count, rate = worthwhile(curve, len(decodes), chances, min_gain)
        if self._model is not None:
            drafts = self._drafts_of_model(self._model, decodes, budget, curve, rate)
            if drafts is not None:
                return drafts
            if not count:
                self._model.doubt()
        if not count and offers and offers[0][0] >= WANTED:
            curve.relax()
        if not count:
            return none
        self._are_copied, self._num_right = True, 0
        counts = [0] * len(decodes)
        for _, idx in offers[:count]:
            counts[idx] += 1
        return [
            lookup.draft(num) if lookup is not None and num else []
            for lookup, num in zip(lookups, counts, strict=True)
        ]

    def judge(self, chunk: Chunk, chosen: list[int]) -> int:
        """How many of a chunk's drafts equal what was chosen in their place."""
        tokens = chunk.sequence.tokens[chunk.end - chunk.num_drafts : chunk.end].tolist()
        num_accepted = 0
        while num_accepted < chunk.num_drafts and tokens[num_accepted] == chosen[num_accepted]:
            num_accepted += 1
        self.num_drafted += chunk.num_drafts
        self.num_accepted += num_accepted
        self._num_right += num_accepted
        if self._model is not None:
            self._model.judge(chunk.sequence, chunk.num_drafts, num_accepted)
        return num_accepted

    def observe(self, plan: StepPlan, step_s: float) -> None:
        """A step took `step_s`. What prefills cost is not learnt here."""
        drafts = [chunk.num_drafts for chunk in plan.chunks]
        if self._max_draft and all(drafts):
            self._settle(len(plan.decodes) + len(drafts), step_s)
            self._cost.observe(len(plan.decodes) + len(drafts), sum(drafts), step_s)
            self._num_since_plain = self._num_since_plain + 1 if drafts else 0

    def _settle(self, num_seqs: int, step_s: float) -> None:
        """Remember what looking at texts has gained or lost in a step of `num_seqs` sequences."""
        self._balance_s *= MEMORY
        if self._are_copied and (curve := self._cost.curve(num_seqs)) is not None:
            plain_s = curve.seconds(0)
            self._balance_s += self._num_right * plain_s / num_seqs - (step_s - plain_s)
        elif self.is_hopeful:
            self._balance_s -= CALL_S

    def _drafts_of_model(
        self, model: DraftModel, decodes: list[Sequence], budget: int, curve: Curve, rate: float
    ) -> list[list[int]] | None:
        """Drafts of the draft model, if they promise more tokens a second than `rate`."""
        shadows: list[tuple[int, Shadow]] = []
        for idx, sequence in enumerate(decodes):
            # The draft model knows no grammar: what it says would seldom be allowed.
            is_free = not sequence.is_steered and self._most_for(sequence) > 0
            if len(decodes) <= MAX_MODEL_SEQS and is_free:
                shadow = model.shadow_of(sequence)
                if shadow is not None:
                    shadows.append((idx, shadow))
        rates = [shadow.rate for _, shadow in shadows]
        plain_s, step_s = curve.seconds(0), model.step_s(len(shadows), curve.seconds(0))
        most = min(self._max_draft, budget // max(1, len(shadows)))
        count, promised = promise(curve, len(decodes), rates, step_s, most)
        if promised <= rate or not count:
            return None
        self.is_hopeful = True
        saved_s = plain_s - len(decodes) / promised
        further_s = curve.seconds((count + 1) * len(rates)) - curve.seconds(count * len(rates))
        group = []
        for idx, shadow in shadows:
            sequence = decodes[idx]
            limit = min(most, self._most_for(sequence), model.max_len - sequence.num_tokens)
            group.append((sequence, shadow, limit))
        drafts = model.draft(group, saved_s, plain_s, promised * (step_s + further_s))
        if not any(draft.tokens for draft in drafts):
            return None
        offers = [(c, i) for i, draft in enumerate(drafts) for c in draft.chances]
        offers.sort(reverse=True)
        count, _ = worthwhile(curve, len(decodes), [chance for chance, _ in offers[:budget]], 1.0)
        proposal: list[list[int]] = [[] for _ in decodes]
        for i, (idx, shadow) in enumerate(shadows):
            num = sum(i == offered for _, offered in offers[:count])
            proposal[idx] = drafts[i].tokens[:num]
            shadow.keep(num)
        return proposal

    def _most_for(self, sequence: Sequence) -> int:
        """Drafts that may be verified: within max_tokens, under one set of biases."""
        guide = sequence.guide
        if sequence.first_token_s is None or (guide is not None and not guide.can_step_back):
            return 0
        most = min(self._max_draft, sequence.max_tokens - sequence.num_output - 1)
        if (missing := sequence.sampling.min_tokens - sequence.num_output) > 0:
            most = min(most, missing - 1)
        return most

    def _texts(self, sequence: Sequence) -> Texts | None:
        """The sequence's texts with all its tokens; None, once and for all, where that failed."""
        if not sequence.may_draft:
            return None
        try:
            return sequence.drafting_texts()
        except Exception:
            _log.exception("request %s goes on without drafts", sequence.request_id)
            sequence.may_draft = False
            return None


def worthwhile(
    curve: Curve, num_seqs: int, chances: list[float], min_gain: float = MIN_GAIN
) -> tuple[int, float]:
    """How many drafts, likeliest first, give the most tokens a second, and how many tokens that
    are; no drafts and the bar of `min_gain` over plain steps if none gain enough."""
    best, best_count = min_gain * num_seqs / curve.seconds(0), 0
    tokens = float(num_seqs)
    for count, chance in enumerate(chances, 1):
        tokens += chance
        rate = tokens / curve.seconds(count)
        if rate > best:
            best, best_count = rate, count
    return best_count, best


def promise(
    curve: Curve, num_seqs: int, rates: list[float], step_s: float, most: int
) -> tuple[int, float]:
    """How many drafts for each of the sequences with these rates of acceptance, `step_s` a draft,
    give the most tokens a second, and how many tokens that are."""
    best, best_count = 0.0, 0
    tokens = float(num_seqs)
    for count in range(1, most + 1):
        tokens += sum(rate**count for rate in rates)
        rate = tokens / (count * step_s + curve.seconds(count * len(rates)))
        if rate > best:
            best, best_count = rate, count
    return best_count, best
