"""The metrics that vLLM has too, a second time under its names and with the same values, so that
dashboards, autoscalers and routers made for it work.

Only what means the same is here: what we do not measure has no name.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import Metric

from firefront.gateway.replica_metrics import PREFIX

SAME = frozenset(
    {
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "cache_config_info",
        "prefix_cache_queries",
        "prefix_cache_hits",
        "num_preemptions",
        "spec_decode_num_draft_tokens",
        "spec_decode_num_accepted_tokens",
        "prompt_tokens",
        "generation_tokens",
        "request_success",
        "request_prompt_tokens",
        "request_generation_tokens",
        "request_max_num_generation_tokens",
        "request_params_max_tokens",
        "request_params_n",
        "request_prefill_kv_computed_tokens",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "request_time_per_output_token_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_inference_time_seconds",
        "e2e_request_latency_seconds",
    }
)
# What vLLM called some of them before; deployed dashboards still ask for these.
OLDER = {
    "kv_cache_usage_perc": "gpu_cache_usage_perc",
    "prefix_cache_queries": "gpu_prefix_cache_queries",
    "prefix_cache_hits": "gpu_prefix_cache_hits",
    "inter_token_latency_seconds": "time_per_output_token_seconds",
}


class Source(Protocol):
    """Something that yields metrics."""

    def collect(self) -> Iterable[Metric]: ...


class WithAliases:
    """Yields all metrics of `sources`, and those that vLLM has under its names too."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            for metric in source.collect():
                yield metric
                name = metric.name.removeprefix(PREFIX)
                if name in SAME:
                    yield _renamed(metric, name)
                if name in OLDER:
                    yield _renamed(metric, OLDER[name])


def _renamed(metric: Metric, name: str) -> Metric:
    alias = copy.copy(metric)
    before, alias.name = metric.name, f"vllm:{name}"
    alias.samples = [
        sample._replace(name=alias.name + sample.name.removeprefix(before))
        for sample in metric.samples
    ]
    return alias
