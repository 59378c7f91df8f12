"""What the server measures of itself, in a registry of its own, for /metrics.

Names are firefront_*; those that vLLM has too are repeated as vllm:* with the same values, so that
dashboards and autoscalers made for it work. Knows nothing of HTTP or of prompts.
"""

import asyncio
import copy
import time
from collections.abc import Iterator, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from firefront.core.messages import Delta
from firefront.fleet.replica import Replica

VLLM_ALIASES = frozenset(
    {
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "prefix_cache_queries",
        "prefix_cache_hits",
        "num_preemptions",
        "spec_decode_num_draft_tokens",
        "spec_decode_num_accepted_tokens",
        "prompt_tokens",
        "generation_tokens",
        "request_success",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "e2e_request_latency_seconds",
    }
)
_PREFIX = "firefront_"
_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_BETWEEN_TOKENS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)
_WHOLE_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_LAG_WARNING_S = 0.1
log = structlog.get_logger("firefront.telemetry")


class Telemetry:
    """The server's metrics. All methods are cheap enough for every delta."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        own = CollectorRegistry()
        model = ["model_name"]

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(_PREFIX + name, text, model, buckets=buckets, registry=own)

        self._prompt_tokens = Counter(
            f"{_PREFIX}prompt_tokens", "Prompt tokens of finished requests.", model, registry=own
        )
        self._generation_tokens = Counter(
            f"{_PREFIX}generation_tokens", "Tokens generated.", model, registry=own
        )
        self._success = Counter(
            f"{_PREFIX}request_success",
            "Sequences that ended, by why.",
            [*model, "finished_reason"],
            registry=own,
        )
        self._first_token = histogram(
            "time_to_first_token_seconds", "From receipt to the first token.", _FIRST_TOKEN_S
        )
        self._between = histogram(
            "inter_token_latency_seconds", "Between the tokens of a sequence.", _BETWEEN_TOKENS_S
        )
        self._whole = histogram("e2e_request_latency_seconds", "From receipt to the end.", _WHOLE_S)
        self._http = Counter(
            f"{_PREFIX}http_requests", "HTTP exchanges.", ["route", "status"], registry=own
        )
        self._http_seconds = Histogram(
            f"{_PREFIX}http_request_seconds",
            "HTTP exchanges, to the last byte.",
            ["route"],
            buckets=_WHOLE_S,
            registry=own,
        )
        self._lag = Gauge(
            f"{_PREFIX}event_loop_lag_seconds", "How late the event loop was last.", registry=own
        )
        self._registry = CollectorRegistry()
        self._registry.register(_WithAliases(own, _FromReplicas(replicas)))

    def http(self, route: str, status: int, seconds: float) -> None:
        self._http.labels(route, str(status)).inc()
        self._http_seconds.labels(route).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        self._first_token.labels(model).observe(seconds)

    def tokens(self, model: str, num_tokens: int, gap_s: float | None) -> None:
        """`num_tokens` arrived, `gap_s` after those before (None: the first)."""
        self._generation_tokens.labels(model).inc(num_tokens)
        if gap_s is not None and num_tokens:
            self._between.labels(model).observe(gap_s / num_tokens)

    def finished(self, model: str, delta: Delta, seconds: float) -> None:
        self._success.labels(model, delta.finish).inc()
        self._whole.labels(model).observe(seconds)
        if delta.usage is not None:
            self._prompt_tokens.labels(model).inc(delta.usage.num_prompt)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
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


class _FromReplicas:
    """Reads the replicas' last Stats when asked."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        model = ["model_name"]
        gauges = {
            "num_requests_running": "Sequences in the running batch.",
            "num_requests_waiting": "Sequences queued.",
            "kv_cache_usage_perc": "Share of KV blocks in use, 0 to 1.",
            "replica_ready": "1 when the replica serves.",
            "replica_sequences_out": "Sequences handed to the replica and not ended.",
        }
        counters = {
            "prefix_cache_queries": ("Prompt tokens looked up.", "prefix_queries"),
            "prefix_cache_hits": ("Prompt tokens found.", "prefix_hits"),
            "num_preemptions": ("Sequences preempted.", "num_preemptions"),
            "step_seconds": ("Time in the engine's steps.", "step_s"),
            "executor_seconds": ("Of that, outside Python.", "executor_s"),
            "spec_decode_num_draft_tokens": ("Tokens drafted and verified.", "drafted_tokens"),
            "spec_decode_num_accepted_tokens": ("Drafted tokens accepted.", "accepted_tokens"),
        }
        own_counts = ("restarts", "hangs", "retries", "foreign_deltas", "late_deltas")
        for name, text in gauges.items():
            family = GaugeMetricFamily(_PREFIX + name, text, labels=model)
            for replica in self._replicas:
                family.add_metric([replica.name], _gauge(replica, name))
            yield family
        for name, (text, field) in counters.items():
            counter = CounterMetricFamily(_PREFIX + name, text, labels=model)
            for replica in self._replicas:
                counter.add_metric([replica.name], replica.total(field))
            yield counter
        for name in (*own_counts, "slow_readers"):
            text = f"Replica {name.replace('_', ' ')}."
            counter = CounterMetricFamily(f"{_PREFIX}replica_{name}", text, labels=model)
            for replica in self._replicas:
                counter.add_metric([replica.name], getattr(replica.counts, name))
            yield counter


def _gauge(replica: Replica, name: str) -> float:
    if name == "replica_ready":
        return float(replica.state == "ready")
    if name == "replica_sequences_out":
        return replica.num_pending
    stats = replica.stats
    if stats is None:
        return 0.0
    if name == "num_requests_running":
        return stats.num_running
    if name == "num_requests_waiting":
        return stats.num_waiting
    return 1 - stats.num_free_blocks / max(1, stats.num_blocks)


class _WithAliases:
    """Yields all metrics, and those that vLLM has a second time under its names."""

    def __init__(self, *sources: CollectorRegistry | _FromReplicas) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            for metric in source.collect():
                yield metric
                if metric.name.removeprefix(_PREFIX) in VLLM_ALIASES:
                    yield _renamed(metric)


def _renamed(metric: Metric) -> Metric:
    alias = copy.copy(metric)
    alias.name = metric.name.replace(_PREFIX, "vllm:", 1)
    alias.samples = [
        sample._replace(name=sample.name.replace(_PREFIX, "vllm:", 1)) for sample in metric.samples
    ]
    return alias
