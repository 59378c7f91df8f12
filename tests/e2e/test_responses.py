"""The starter model through the Responses API."""

from typing import Any

from tests.e2e.served import ASK, Served, said


def test_the_words_are_those_of_chat(live: Served) -> None:
    sdk = live.sdk(_strict_response_validation=True)
    asked: Any = {"model": live.name, "input": ASK, "max_output_tokens": 32, "temperature": 0}
    whole = sdk.responses.create(**asked)
    assert whole.output_text == said(live.chat())
    assert (whole.status, whole.output[0].status) == ("completed", "completed")
    with sdk.responses.stream(**asked) as events:
        streamed = events.get_final_response()
    assert streamed.output_text == whole.output_text
    counted = sdk.responses.input_tokens.count(model=live.name, input=ASK)
    assert counted.input_tokens == whole.usage.input_tokens == streamed.usage.input_tokens


def test_logprobs_are_those_of_chat(live: Served) -> None:
    answer = live.sdk().responses.create(
        model=live.name,
        input=ASK,  # type: ignore[arg-type]
        max_output_tokens=8,
        temperature=0,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    )
    ours = answer.output[0].content[0].logprobs
    theirs = live.chat(max_tokens=8, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [(e.token, e.logprob) for e in ours] == [(e.token, e.logprob) for e in theirs]
    assert [[t.token for t in e.top_logprobs] for e in ours] == [
        [t.token for t in e.top_logprobs] for e in theirs
    ]
