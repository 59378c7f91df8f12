"""What a pipeline may be told."""

from typing import Any

import msgspec
import pytest

from firefront.core.errors import RequestError
from firefront.tuning.pipelines.definition import Definition, checked

GOOD: dict[str, Any] = {"data": {"file": "file-1"}}


def test_a_file_is_enough() -> None:
    definition = checked(msgspec.convert(GOOD, Definition))
    assert definition.canary.share == 0.05 and definition.tuning.method == "supervised"
    assert msgspec.convert(msgspec.to_builtins(definition), Definition) == definition


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"data": {}}, "data"),
        ({"data": {"file": "a", "traffic": {}}}, "data"),
        ({"tuning": {"hyperparameters": {"n_epochs": 0}}}, "tuning.hyperparameters.n_epochs"),
        ({"tuning": {"seed": -1}}, "seed"),
        ({"tuning": {"method": "dpo"}}, "evaluation.file"),
        ({"evaluation": {"forget": ["a"] * 5}}, "evaluation.forget"),
        ({"evaluation": {"limit": 0}}, "evaluation.limit"),
        ({"evaluation": {"max_score_loss": 1.5}}, "evaluation.max_score_loss"),
        ({"evaluation": {"max_perplexity_rise": -1}}, "evaluation.max_perplexity_rise"),
        ({"canary": {"share": 0.6}}, "canary.share"),
        ({"canary": {"min_requests": 0}}, "canary.min_requests"),
        ({"canary": {"max_s": 0}}, "canary.max_s"),
    ],
)
def test_refusals_name_the_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as raised:
        checked(msgspec.convert(GOOD | change, Definition))
    assert raised.value.param == param and raised.value.message.startswith(f"{param}: ")
