"""/inference/v1 and /openai/v1 are /v1 by other names; small endpoints that other servers have."""

import anthropic
import openai
import pytest

from firefront.gateway.middleware import real_path
from tests.gateway.live import Live

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/v1/models", "/v1/models"),
        ("/inference/v1/models", "/v1/models"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/inference/v1/", "/v1/"),
        ("/inference/v1", "/inference/v1"),
        ("/inference/metrics", "/inference/metrics"),
        ("/inference/openai/v1/models", "/inference/openai/v1/models"),
        ("/inferences/v1/models", "/inferences/v1/models"),
        ("/", "/"),
    ],
)
def test_real_paths(path: str, real: str) -> None:
    assert real_path(path) == real


@pytest.mark.parametrize("alias", ["inference", "openai"])
def test_every_client_may_use_an_alias(live: Live, alias: str) -> None:
    base = f"{live.url}/{alias}"
    sdk = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    assert [model.id for model in sdk.models.list()] == ["fake", "some/other"]
    assert sdk.models.retrieve("some/other").id == "some/other"
    answer = sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=3)
    stream = sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=3, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == answer.choices[0].message.content
    claude = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
    message = claude.messages.create(model="fake", messages=HELLO, max_tokens=3)
    assert message.content[0].text == text


def test_metrics_know_the_real_route_only(live: Live) -> None:
    body = {"model": "fake", "prompt": "x", "max_tokens": 1}
    labels = {"route": "/v1/completions", "status": "200"}
    before = live.metric("firefront_http_requests_total", **labels)
    for path in ("/v1", "/inference/v1", "/openai/v1"):
        assert live.http().post(f"{path}/completions", json=body).status_code == 200
    assert live.metric("firefront_http_requests_total", **labels) == before + 3
    assert "/inference" not in live.http().get("/metrics").text


def test_an_alias_is_not_twice_one(live: Live) -> None:
    answer = live.http().get("/inference/inference/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_small_endpoints(live: Live) -> None:
    http = live.http()
    assert http.get("/ping").json() == http.post("/ping").json() == {"status": "ok"}
    assert set(http.get("/version").json()) == {"version"}
    assert http.get("/load").json() == {"server_load": 0}
