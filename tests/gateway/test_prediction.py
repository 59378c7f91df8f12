"""`prediction` on chat completions: which tokens reach the engine, and what usage says of them."""

import openai
import pytest

HELLO = [{"role": "user", "content": "hello"}]


def ask(sdk: openai.OpenAI, **fields: object):
    return sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=12, **fields)


def test_usage_counts_what_was_foretold(sdk: openai.OpenAI) -> None:
    plain = ask(sdk)
    assert plain.usage.completion_tokens_details.accepted_prediction_tokens == 0
    text = plain.choices[0].message.content
    wrong = text[:5] + "#" + text[6:] + "more"
    parts = [{"type": "text", "text": wrong[:3]}, {"type": "text", "text": wrong[3:]}]
    for content in (wrong, parts):
        answer = ask(sdk, prediction={"type": "content", "content": content})
        assert answer.choices[0].message.content == text
        details = answer.usage.completion_tokens_details
        assert details.accepted_prediction_tokens == 11
        assert details.rejected_prediction_tokens == 5
        assert answer.usage.completion_tokens == 12
    chunks = list(
        ask(
            sdk,
            prediction={"type": "content", "content": text},
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    details = chunks[-1].usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (12, 0)
    two = ask(sdk, prediction={"type": "content", "content": text}, n=2, seed=7)
    details = two.usage.completion_tokens_details
    assert details.accepted_prediction_tokens + details.rejected_prediction_tokens == 24


@pytest.mark.parametrize(
    ("prediction", "param"),
    [
        ({"type": "content"}, "prediction.content"),
        ({"type": "image", "content": "x"}, "prediction.type"),
        ({"type": "content", "content": [{"type": "image_url"}]}, "prediction.content"),
        ({"type": "content", "content": "long " * 1000}, "prediction"),
    ],
)
def test_what_cannot_be_a_prediction_is_refused(
    sdk: openai.OpenAI, prediction: dict, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(sdk, prediction=prediction)
    assert caught.value.param.startswith(param)


def test_an_empty_prediction_is_none(sdk: openai.OpenAI) -> None:
    usage = ask(sdk, prediction={"type": "content", "content": ""}).usage
    details = usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (0, 0)
