"""What the replicas say of themselves, as Prometheus metrics, read when somebody asks.

Knows nothing of requests; those are telemetry's.
"""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from firefront.fleet.replica import Replica

PREFIX = "firefront_"


class FromReplicas:
    """Reads the replicas' last Stats when asked."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        model = ["model_name"]
        gauges = {
            "num_requests_running": "Sequences in the running batch.",
            "num_requests_waiting": "Sequences queued.",
            "kv_cache_usage_perc": "Share of KV blocks in use, 0 to 1.",
            "num_adapters_resident": "Adapters in the replica's memory.",
            "adapter_bytes": "Memory that they take.",
            "replica_ready": "1 when the replica serves.",
            "replica_sequences_out": "Sequences handed to the replica and not ended.",
        }
        counters = {
            "prefix_cache_queries": ("Prompt tokens looked up.", "prefix_queries"),
            "prefix_cache_hits": ("Prompt tokens found.", "prefix_hits"),
            "num_preemptions": ("Sequences preempted.", "num_preemptions"),
            "step_seconds": ("Time in the engine's steps.", "step_s"),
            "executor_seconds": ("Of that, outside Python.", "executor_s"),
            "adapter_loads": ("Adapters read into memory.", "num_adapter_loads"),
            "spec_decode_num_draft_tokens": ("Tokens drafted and verified.", "drafted_tokens"),
            "spec_decode_num_accepted_tokens": ("Drafted tokens accepted.", "accepted_tokens"),
        }
        yield _cache_config(self._replicas)
        own_counts = ("restarts", "hangs", "retries", "foreign_deltas", "late_deltas")
        for name, text in gauges.items():
            family = GaugeMetricFamily(PREFIX + name, text, labels=model)
            for replica in self._replicas:
                family.add_metric([replica.name], _gauge(replica, name))
            yield family
        for name, (text, field) in counters.items():
            counter = CounterMetricFamily(PREFIX + name, text, labels=model)
            for replica in self._replicas:
                counter.add_metric([replica.name], replica.total(field))
            yield counter
        for name in (*own_counts, "slow_readers"):
            text = f"Replica {name.replace('_', ' ')}."
            counter = CounterMetricFamily(f"{PREFIX}replica_{name}", text, labels=model)
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
    if name == "num_adapters_resident":
        return stats.num_adapters
    if name == "adapter_bytes":
        return stats.adapter_bytes
    return 1 - stats.num_free_blocks / max(1, stats.num_blocks)


def _cache_config(replicas: Sequence[Replica]) -> Metric:
    """The KV cache of each model, as labels; routers read the block size here."""
    labels = ["model_name", "block_size", "num_gpu_blocks", "cache_dtype", "enable_prefix_caching"]
    family = GaugeMetricFamily(
        PREFIX + "cache_config_info", "The KV cache, in the labels.", labels=labels
    )
    for replica in replicas:
        if (hello := replica.hello) is not None:
            kept = replica.deployment
            values = (hello.block_size, hello.num_blocks, kept.kv_dtype, kept.prefix_cache)
            family.add_metric([replica.name, *map(str, values)], 1)
    return family
