"""Models, probes, metrics, /docs: what operators and newcomers look at."""

import re

import openai
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.live import Live, wait_for


def test_models(sdk: openai.OpenAI) -> None:
    models = sdk.models.list().data
    assert [m.id for m in models] == ["fake", "some/other"]
    assert all(m.object == "model" and m.max_model_len == 2048 for m in models)
    assert sdk.models.retrieve("some/other").id == "some/other"
    assert sdk.completions.create(model="some/other", prompt="x").model == "some/other"


def test_probes(live: Live) -> None:
    for path in ("/livez", "/readyz", "/health"):
        assert live.http().get(path).json() == {"status": "ok"}
        assert live.http().head(path).status_code == 200


def test_metrics_and_their_vllm_names(live: Live) -> None:
    labels = {"model_name": "fake"}
    before = live.metric("firefront_generation_tokens_total", **labels)
    live.sdk().completions.create(model="fake", prompt="x", max_tokens=7)
    assert live.metric("firefront_generation_tokens_total", **labels) == before + 7
    families = {
        family.name: family
        for family in text_string_to_metric_families(live.http().get("/metrics").text)
    }
    for name in (
        "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
        "prefix_cache_queries", "prefix_cache_hits", "num_preemptions", "prompt_tokens",
        "spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens",
        "generation_tokens", "request_success", "time_to_first_token_seconds",
        "inter_token_latency_seconds", "e2e_request_latency_seconds",
    ):  # fmt: skip
        ours, theirs = families[f"firefront_{name}"], families[f"vllm:{name}"]
        assert len(ours.samples) == len(theirs.samples) > 0
    adapters = ("num_adapters_resident", 2), ("adapter_bytes", 4096), ("adapter_loads_total", 3)
    for name, value in adapters:
        assert live.metric(f"firefront_{name}", **labels) == value
    reasons = {s.labels["finished_reason"] for s in families["vllm:request_success"].samples}
    assert "length" in reasons
    wait_for(lambda: live.metric("firefront_num_requests_running") == 0, 0.5)


def test_docs_need_nothing_from_elsewhere(live: Live) -> None:
    page = live.http().get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"/docs/docs.js", "/docs/docs.css"} <= set(links)
    for link in links:
        assert link.startswith("/")
        answer = live.http().get(link)
        assert answer.status_code == 200
        assert not re.search(r"https?://(?!')", answer.text.replace("http://localhost", ""))
    assert "<script>" not in page.text and "style=" not in page.text


def test_openapi_describes_every_field(live: Live) -> None:
    document = live.http().get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics"} <= set(
        document["paths"]
    )
    schemas = document["components"]["schemas"]
    for name in ("ChatRequest", "CompletionRequest"):
        fields = schemas[name]["properties"]
        assert {"model", "temperature", "top_k", "logit_bias", "stream_options"} <= set(fields)
    body = document["paths"]["/v1/completions"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("/CompletionRequest")


def test_prompts_are_not_logged(live: Live) -> None:
    live.sdk().completions.create(model="fake", prompt="a very private thing", max_tokens=1)
    live.http().post("/v1/completions", json={"model": "fake", "prompt": ["a private thing", 1]})
    assert "private" not in live.raw_log
