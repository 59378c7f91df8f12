"""The spellings of a model's name, and what may be done to models."""

import openai
import pytest

from firefront.core.deployment import Deployment
from firefront.core.errors import NotFoundError
from firefront.fleet.replica import Replica
from firefront.fleet.router import Router
from tests.gateway.live import Live


def router(*names: str) -> Router:
    return Router(Replica(name, Deployment(model=name)) for name in names)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("m", "m"),
        ("org/m", "org/m"),
        ("qwen:0.5b", "qwen:0.5b"),
        ("odd#name", "odd#name"),
        ("accounts/me/models/m", "m"),
        ("accounts/me/models/org/m", "org/m"),
        ("accounts/own/models/exact", "accounts/own/models/exact"),
        ("m#d1", "m"),
        ("m#accounts/me/deployments/d1", "m"),
        ("accounts/me/models/m#accounts/me/deployments/d1", "m"),
        ("accounts/me/models/qwen:0.5b#d", "qwen:0.5b"),
    ],
)
def test_spellings(model: str, found: str) -> None:
    names = ("m", "org/m", "qwen:0.5b", "odd#name", "accounts/own/models/exact")
    assert router(*names).find(model).name == found


@pytest.mark.parametrize(
    "model",
    ["", "x", "M", "accounts/me/models/", "accounts//models/m", "accounts/a/b/models/m", "#m",
     "accounts/" + "a" * 300 + "/models/m", "/m", "m/"],
)  # fmt: skip
def test_what_is_not_served(model: str) -> None:
    with pytest.raises(NotFoundError, match="served: m, org/m"):
        router("m", "org/m").find(model)


@pytest.mark.parametrize("model", ["m:tuned", "accounts/me/models/m:tuned", "m:tuned#d"])
def test_an_adapter_that_does_not_exist_is_named(model: str) -> None:
    with pytest.raises(NotFoundError, match="m has no adapter 'tuned'") as caught:
        router("m").find(model)
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    "model", ["fake", "accounts/me/models/fake", "fake#d1", "accounts/me/models/some/other#d"]
)
def test_over_http(live: Live, model: str) -> None:
    sdk = live.sdk(_strict_response_validation=True)
    answer = sdk.completions.create(model=model, prompt="x", max_tokens=1)
    assert answer.model in ("fake", "some/other") and answer.model in model
    assert sdk.models.retrieve(model).id == answer.model


def test_models_pass_strict_validation(live: Live) -> None:
    sdk = live.sdk(_strict_response_validation=True)
    assert [model.id for model in sdk.models.list()] == ["fake", "some/other"]


def test_base_models_cannot_be_deleted(live: Live) -> None:
    sdk = live.sdk()
    with pytest.raises(openai.PermissionDeniedError, match="base model") as caught:
        sdk.models.delete("some/other")
    assert (caught.value.param, caught.value.code) == ("model", "permission_denied")
    with pytest.raises(openai.NotFoundError):
        sdk.models.delete("nobody")
    with pytest.raises(openai.NotFoundError, match="fake has no adapter 'mine'") as missing:
        sdk.models.delete("fake:mine")
    assert missing.value.code == "model_not_found"
