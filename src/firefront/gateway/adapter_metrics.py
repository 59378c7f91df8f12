"""What each adapter is used for and how long it takes, for /metrics.

The other metrics count an adapter's requests as its base's, so that their sums hold; these say
which adapter it was. Only adapters that are served have series: those of others are dropped.
"""

from prometheus_client import CollectorRegistry, Counter, Summary

from firefront.core.messages import Delta
from firefront.gateway.replica_metrics import PREFIX

_LABELS = ["model_name", "adapter"]


class AdapterMetrics:
    """Counters and sums by base and adapter. Means, no histograms: adapters may be hundreds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            labelled = [*_LABELS, *labels]
            return Counter(f"{PREFIX}adapter_{name}", text, labelled, registry=registry)

        def summary(name: str, text: str) -> Summary:
            return Summary(f"{PREFIX}adapter_{name}", text, _LABELS, registry=registry)

        self._success = counter(
            "request_success", "Sequences that ended, by why.", "finished_reason"
        )
        self._prompt = counter("prompt_tokens", "Prompt tokens of finished requests.")
        self._generation = counter("generation_tokens", "Tokens of finished requests.")
        self._first_token = summary(
            "time_to_first_token_seconds", "From receipt to the first token."
        )
        self._whole = summary("e2e_request_latency_seconds", "From receipt to the end.")

    def first_token(self, base: str, adapter: str, seconds: float) -> None:
        self._first_token.labels(base, adapter).observe(seconds)

    def finished(self, base: str, adapter: str, delta: Delta, seconds: float) -> None:
        """A sequence ended, `seconds` after its request came in."""
        self._success.labels(base, adapter, delta.finish).inc()
        self._whole.labels(base, adapter).observe(seconds)
        if delta.usage is not None:
            self._prompt.labels(base, adapter).inc(delta.usage.num_prompt)
            self._generation.labels(base, adapter).inc(delta.usage.num_output)

    def forget(self, base: str, adapter: str) -> None:
        """Drop the series of an adapter that is served no more."""
        values = dict(zip(_LABELS, (base, adapter), strict=True))
        metrics = (
            self._success, self._prompt, self._generation, self._first_token, self._whole
        )  # fmt: skip
        for metric in metrics:
            metric.remove_by_labels(values)
