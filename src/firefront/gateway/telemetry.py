"""What the server measures of itself, in a registry of its own, for /metrics.

Names are firefront_*; those that vLLM has too are repeated under its names (`vllm_names`). Knows
nothing of HTTP or of prompts.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from firefront.core.messages import Delta, Timings, Usage
from firefront.fleet.replica import Replica
from firefront.gateway.adapter_metrics import AdapterMetrics
from firefront.gateway.replica_metrics import PREFIX, FromReplicas
from firefront.gateway.vllm_names import WithAliases

_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_BETWEEN_TOKENS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)
_WHOLE_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_PHASE_S = (0.001, 0.005, *_FIRST_TOKEN_S, 300, 600)
_TOKENS = tuple(m * 10**e for e in range(6) for m in (1, 2, 5))
_COUNTS = (1, 2, 4, 8)
_LAG_WARNING_S = 0.1
_MAX_ARRIVED = 500
_Histogram = Callable[..., Histogram]  # of the labels' values, which are looked up once
log = structlog.get_logger("firefront.telemetry")


class Telemetry:
    """The server's metrics. All methods are cheap enough for every delta."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        own = CollectorRegistry()
        model = ["model_name"]

        def counter(name: str, text: str, labels: Sequence[str]) -> Callable[..., Counter]:
            return functools.cache(Counter(PREFIX + name, text, labels, registry=own).labels)

        def histogram(
            name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = model
        ) -> _Histogram:
            metric = Histogram(PREFIX + name, text, labels, buckets=buckets, registry=own)
            return functools.cache(metric.labels)

        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens of finished requests.", model)
        self._generation_tokens = counter("generation_tokens", "Tokens generated.", model)
        self._success = counter(
            "request_success", "Sequences that ended, by why.", [*model, "finished_reason"]
        )
        self._first_token = histogram(
            "time_to_first_token_seconds", "From receipt to the first token.", _FIRST_TOKEN_S
        )
        self._between = histogram(
            "inter_token_latency_seconds", "Between the tokens of a sequence.", _BETWEEN_TOKENS_S
        )
        self._whole = histogram("e2e_request_latency_seconds", "From receipt to the end.", _WHOLE_S)
        self._ended = _OfEnded(histogram)
        self._http = counter("http_requests", "HTTP exchanges.", ["route", "status"])
        self._http_seconds = histogram(
            "http_request_seconds", "HTTP exchanges, to the last byte.", _WHOLE_S, ["route"]
        )
        self._lag = Gauge(
            f"{PREFIX}event_loop_lag_seconds", "How late the event loop was last.", registry=own
        )
        self.adapters = AdapterMetrics(own)
        self._arrived: list[tuple[str, int, float | None]] = []  # of `tokens`, not yet counted
        self._registry = CollectorRegistry()
        self._registry.register(WithAliases(own, FromReplicas(replicas)))

    def http(self, route: str, status: int, seconds: float) -> None:
        self._http(route, str(status)).inc()
        self._http_seconds(route).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        self._first_token(model).observe(seconds)

    def tokens(self, model: str, num_tokens: int, gap_s: float | None) -> None:
        """`num_tokens` arrived, `gap_s` after those before (None: the first)."""
        self._arrived.append((model, num_tokens, gap_s))
        if len(self._arrived) >= _MAX_ARRIVED:
            self._count_arrived()

    def _count_arrived(self) -> None:
        """Into the metrics, many at once: one by one, between other work, costs five times that."""
        arrived, self._arrived = self._arrived, []
        for model, num_tokens, gap_s in arrived:
            self._generation_tokens(model).inc(num_tokens)
            if gap_s is not None:
                self._between(model).observe(gap_s / num_tokens)

    def finished(self, model: str, delta: Delta, seconds: float, max_tokens: int | None) -> None:
        """A sequence ended, `seconds` after its request came in."""
        self._success(model, delta.finish).inc()
        self._whole(model).observe(seconds)
        if delta.usage is not None:
            self._prompt_tokens(model).inc(delta.usage.num_prompt)
            self._ended.counted(model, delta.usage, max_tokens)
            if delta.timings is not None:
                self._ended.timed(model, delta.timings, delta.usage.num_output)

    def request(self, model: str, num_outputs: Sequence[int]) -> None:
        """All sequences of one prompt ended, with so many tokens each."""
        self._ended.params_n(model).observe(len(num_outputs))
        self._ended.longest(model).observe(max(num_outputs))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        self._count_arrived()
        return generate_latest(self._registry)

    async def watch_event_loop(self) -> None:
        """Measure the loop's lag four times a second, for ever."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.25)
            lag_s = max(0.0, time.monotonic() - before_s - 0.25)
            self._lag.set(lag_s)
            if lag_s > _LAG_WARNING_S:
                log.warning("event loop was blocked", lag_ms=round(lag_s * 1e3))


class _OfEnded:
    """Histograms over what has ended."""

    def __init__(self, new: Callable[..., _Histogram]) -> None:
        def seconds(name: str, text: str) -> _Histogram:
            return new(f"request_{name}_time_seconds", f"Of a sequence {text}.", _PHASE_S)

        def tokens(name: str, text: str) -> _Histogram:
            return new(f"request_{name}_tokens", text, _TOKENS)

        self._queue = seconds("queue", "before it was scheduled")
        self._prefill = seconds("prefill", "from there to its first token")
        self._decode = seconds("decode", "from its first token to its last")
        self._inference = seconds("inference", "from being scheduled to its end")
        self._per_token = new(
            "request_time_per_output_token_seconds",
            "Mean time between the tokens of a sequence.",
            _BETWEEN_TOKENS_S,
        )
        self._prompt = tokens("prompt", "Prompt tokens of a sequence.")
        self._computed = tokens("prefill_kv_computed", "Of these, not from the prefix cache.")
        self._generation = tokens("generation", "Tokens generated for a sequence.")
        self._max_tokens = tokens("params_max", "Most tokens that a sequence was allowed.")
        self.longest = tokens("max_num_generation", "Tokens of the longest sequence of a prompt.")
        self.params_n = new("request_params_n", "Sequences asked for a prompt.", _COUNTS)

    def counted(self, model: str, usage: Usage, max_tokens: int | None) -> None:
        self._prompt(model).observe(usage.num_prompt)
        self._computed(model).observe(usage.num_prompt - usage.num_cached)
        self._generation(model).observe(usage.num_output)
        if max_tokens is not None:
            self._max_tokens(model).observe(max_tokens)

    def timed(self, model: str, timings: Timings, num_output: int) -> None:
        """Where a sequence's time went, as far as it got."""
        queue_s, first_s, total_s = timings.queue_s, timings.first_token_s, timings.total_s
        if queue_s is None or total_s is None:
            return
        self._queue(model).observe(queue_s)
        self._inference(model).observe(total_s - queue_s)
        if first_s is None:
            return
        self._prefill(model).observe(first_s - queue_s)
        self._decode(model).observe(total_s - first_s)
        if num_output > 1:
            self._per_token(model).observe((total_s - first_s) / (num_output - 1))
