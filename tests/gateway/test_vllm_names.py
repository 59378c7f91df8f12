"""Metrics under vLLM's names: the same values as ours, and what happened is what they count."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from firefront.core.messages import Delta, Timings, Usage
from firefront.gateway.telemetry import Telemetry
from firefront.gateway.vllm_names import OLDER, SAME
from tests.gateway.live import Live

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_name_has_our_values(live: Live) -> None:
    live.sdk().completions.create(model="fake", prompt="x", max_tokens=3)
    found = samples(live.http().get("/metrics").text)
    for name in SAME:
        ours = {key: value for key, value in found.items() if _is(key[0], f"firefront_{name}")}
        assert ours, name
        for (sample, labels), value in ours.items():
            for theirs in (name, OLDER.get(name, name)):
                key = (sample.replace(f"firefront_{name}", f"vllm:{theirs}"), labels)
                assert found[key] == value


def _is(sample: str, family: str) -> bool:
    return sample.removeprefix(family) in ("", "_total", "_count", "_sum", "_bucket")


def test_what_one_request_adds(make_live: object) -> None:
    live: Live = make_live("fake")  # type: ignore[operator]
    live.sdk().completions.create(model="fake", prompt="hello", max_tokens=6, n=2)

    def total(name: str) -> float:
        return live.metric(f"vllm:{name}", model_name="fake")

    # What the fake says of itself: 0.25 s queued, 0.5 s to the first token, 1.5 s in all.
    assert total("request_queue_time_seconds_sum") == 2 * 0.25
    assert total("request_prefill_time_seconds_sum") == 2 * 0.25
    assert total("request_decode_time_seconds_sum") == 2 * 1.0
    assert total("request_inference_time_seconds_sum") == 2 * 1.25
    assert total("request_time_per_output_token_seconds_sum") == 2 * 1.0 / 5
    assert total("request_prompt_tokens_sum") == 2 * 5
    assert total("request_prefill_kv_computed_tokens_sum") == 2 * (5 - 2)
    assert total("request_generation_tokens_sum") == 2 * 6
    assert total("request_params_max_tokens_sum") == 2 * 6
    assert total("request_params_n_count") == 1
    assert total("request_params_n_sum") == 2
    assert total("request_max_num_generation_tokens_sum") == 6
    labels = {"block_size": "16", "num_gpu_blocks": "1000", "enable_prefix_caching": "True"}
    assert live.metric("vllm:cache_config_info", **labels) == 1


def test_a_sequence_that_never_ran_has_no_times() -> None:
    telemetry = Telemetry([])
    for timings in (None, Timings(), Timings(queue_s=0.1), Timings(queue_s=0.1, total_s=0.3)):
        usage = Usage(num_prompt=3, num_output=0)
        delta = Delta(
            request_id="", generation=1, token_ids=[], text="", finish="length", usage=usage,
            timings=timings,
        )  # fmt: skip
        telemetry.finished("m", delta, 0.5, None)
    found = samples(telemetry.text().decode())
    labels = (("model_name", "m"),)
    assert found["firefront_request_queue_time_seconds_count", labels] == 1
    assert ("firefront_request_prefill_time_seconds_count", labels) not in found
    assert found["firefront_request_prompt_tokens_sum", labels] == 12
    assert ("firefront_request_params_max_tokens_count", labels) not in found
