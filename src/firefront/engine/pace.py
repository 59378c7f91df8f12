"""How much prefill a step may carry while other sequences decode.

Learns the cost of a token from the steps that ran. Knows no scheduler. Results never depend on it:
a prompt computed in other pieces gives the same tokens.
"""

MIXED_STEP_S = 0.1  # a step that makes running streams wait aims at no more than this
MIN_TOKENS = 32  # below this, kernels lose more than streams gain
MIN_OBSERVED = 64  # smaller steps say more about weights read than about tokens
SMOOTHING = 0.25  # share of the newest observation


class Pace:
    """Seconds a token of prefill, averaged over recent steps; unknown until one was seen."""

    def __init__(self) -> None:
        self._token_s = 0.0

    def observe(self, num_tokens: int, elapsed_s: float) -> None:
        """A step of `num_tokens` tokens took `elapsed_s`."""
        if num_tokens < MIN_OBSERVED or elapsed_s <= 0:
            return
        token_s = elapsed_s / num_tokens
        if self._token_s:
            token_s = self._token_s + SMOOTHING * (token_s - self._token_s)
        self._token_s = token_s

    def mixed_tokens(self, token_budget: int) -> int:
        """Prefill tokens for a step that also decodes, at most `token_budget`."""
        if not self._token_s:
            return token_budget
        return min(token_budget, max(MIN_TOKENS, int(MIXED_STEP_S / self._token_s)))
