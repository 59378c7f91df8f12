"""Completions through the official SDK: prompts of four shapes, echo, legacy logprobs."""

import openai
import pytest

PROMPT = "Once upon é"


def test_default_is_sixteen_tokens(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="fake", prompt=PROMPT)
    assert answer.object == "text_completion"
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"
    streamed = sdk.completions.create(model="fake", prompt=PROMPT, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


@pytest.mark.parametrize(
    ("prompt", "num_prompts"),
    [("ab", 1), (["ab", "cd"], 2), ([97, 98], 1), ([[97, 98], [99, 100]], 2)],
)
def test_prompt_shapes(sdk: openai.OpenAI, prompt: list, num_prompts: int) -> None:
    answer = sdk.completions.create(model="fake", prompt=prompt, max_tokens=4, n=2, seed=1)
    assert [choice.index for choice in answer.choices] == list(range(2 * num_prompts))
    assert answer.usage.prompt_tokens == 2 * num_prompts
    assert answer.usage.completion_tokens == 8 * num_prompts
    same = sdk.completions.create(model="fake", prompt="ab", max_tokens=4, n=2, seed=1)
    assert [c.text for c in answer.choices[:2]] == [c.text for c in same.choices]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", [PROMPT, list(PROMPT.encode())])
def test_echo_with_logprobs(sdk: openai.OpenAI, prompt: object, stream: bool) -> None:
    answer = sdk.completions.create(
        model="fake", prompt=prompt, max_tokens=3, echo=True, logprobs=2, stream=stream
    )
    chunks = list(answer) if stream else [answer]
    text = "".join(chunk.choices[0].text for chunk in chunks)
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    tokens = [token for part in parts for token in part.tokens]
    logprobs = [value for part in parts for value in part.token_logprobs]
    tops = [top for part in parts for top in part.top_logprobs]
    offsets = [offset for part in parts for offset in part.text_offset]
    assert text.startswith(PROMPT)
    assert len(text) == len(PROMPT) + 3
    assert len(tokens) == len(logprobs) == len(tops) == len(offsets) == len(PROMPT.encode()) + 3
    assert logprobs[0] is None and tops[0] is None
    assert all(value == -0.5 for value in logprobs[1:])
    assert all(tokens[i] in tops[i] for i in range(1, len(tokens)))
    assert offsets[0] == 0 and offsets[-1] == len(text) - 1
    assert tokens[-4] == "bytes:\\xa9"  # half of é has no text of its own


def test_scoring_without_generating(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="fake", prompt="abc", max_tokens=0, echo=True, logprobs=0)
    [choice] = answer.choices
    assert choice.text == "abc"
    assert choice.logprobs.tokens == ["a", "b", "c"]
    assert choice.logprobs.top_logprobs is None
    assert answer.usage.completion_tokens == 0


def test_echo_without_logprobs(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="fake", prompt="abc", max_tokens=2, echo=True)
    assert answer.choices[0].text.startswith("abc")
    assert answer.choices[0].logprobs is None


def test_every_parameter_is_taken(sdk: openai.OpenAI) -> None:
    raw = sdk.completions.with_raw_response.create(
        model="fake", prompt="abc", max_tokens=2, temperature=0.5, top_p=0.9, n=1, seed=-5,
        stop=["zz", "yy"], presence_penalty=1, frequency_penalty=-1, logit_bias={"97": 5},
        logprobs=1,
        extra_body={
            "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True,
            "min_tokens": 1, "stop_token_ids": [1], "include_stop_str_in_output": True,
            "skip_special_tokens": False, "allowed_token_ids": [97, 98],
        },
    )  # fmt: skip
    assert "x-firefront-ignored-params" not in raw.headers
    assert len(raw.parse().choices[0].text) == 2
