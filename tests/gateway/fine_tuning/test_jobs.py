"""/v1/fine_tuning/jobs through the openai SDK: what is accepted, what is refused and how, lists."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.gateway.fine_tuning.conftest import chat_rows
from tests.gateway.live import Live, wait_for

Upload = Callable[..., str]


def ended(sdk: openai.OpenAI, id: str) -> Any:
    """The job once it is neither validated nor waiting."""
    states = ("succeeded", "failed", "cancelled")
    return wait_for(
        lambda: job if (job := sdk.fine_tuning.jobs.retrieve(id)).status in states else None, 60
    )


def messages(sdk: openai.OpenAI, id: str) -> list[str]:
    return [event.message for event in sdk.fine_tuning.jobs.list_events(id)][::-1]


def refusal(call: Callable[[], Any]) -> tuple[int, str | None, str | None, str]:
    with pytest.raises(openai.APIStatusError) as raised:
        call()
    error = raised.value
    return error.status_code, error.param, error.code, error.body["message"]


def test_a_new_job(strict: openai.OpenAI, upload: Upload) -> None:
    training, validation = upload(), upload()
    job = strict.fine_tuning.jobs.create(
        model="fake",
        training_file=training,
        validation_file=validation,
        suffix="My intents!",
        seed=7,
        metadata={"team": "a"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}},
        },
    )
    assert job.id.startswith("ftjob-") and job.object == "fine_tuning.job"
    assert (job.model, job.status) == ("fake", "validating_files")
    assert (job.training_file, job.validation_file) == (training, validation)
    assert (job.seed, job.metadata, job.result_files) == (7, {"team": "a"}, [])
    assert job.fine_tuned_model is None and job.error is None and job.finished_at is None
    assert job.hyperparameters.n_epochs == 2 and job.hyperparameters.batch_size == "auto"
    assert job.method.type == "supervised"
    assert job.method.supervised.hyperparameters.learning_rate_multiplier == 0.5
    cancelled = strict.fine_tuning.jobs.cancel(job.id)
    assert cancelled.status == "cancelled" and cancelled.finished_at


def test_the_older_place_of_hyperparameters(strict: openai.OpenAI, upload: Upload) -> None:
    job = strict.fine_tuning.jobs.create(
        model="fake", training_file=upload(), hyperparameters={"n_epochs": 3, "batch_size": "auto"}
    )
    assert job.hyperparameters.n_epochs == 3
    assert job.method.supervised.hyperparameters.n_epochs == 3
    assert 0 <= job.seed < 2**31
    strict.fine_tuning.jobs.cancel(job.id)


def test_dpo(sdk: openai.OpenAI, upload: Upload) -> None:
    """Its rows are preferences; chat rows are told apart."""
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    job = sdk.fine_tuning.jobs.create(model="fake", training_file=upload(), method=method)
    assert job.method.type == "dpo" and job.method.dpo.hyperparameters.beta == 0.2
    job = ended(sdk, job.id)
    assert job.error.code == "invalid_training_file"
    assert "12 x the method dpo needs preference rows" in job.error.message


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"training_file": "file-none"}, "training_file", "no file 'file-none'"),
        ({"validation_file": "file-none"}, "validation_file", "no file"),
        ({"model": "nobody"}, "model", "nobody"),
        ({"suffix": "x" * 65}, "suffix", "at most 64"),
        ({"suffix": "!?"}, "suffix", "a letter or a digit"),
        ({"seed": -1}, "seed", "0 to"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "not"),
        ({"method": {"type": "reinforcement"}}, "method.type", "'reinforcement' is not supported"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised", "the type is dpo"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "1 to 50"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "many"),
        ({"hyperparameters": {"epochs": 1}}, "hyperparameters", "unknown field `epochs`"),
        (
            {"hyperparameters": {"learning_rate": 1e-4, "learning_rate_multiplier": 2}},
            "hyperparameters.learning_rate",
            "not together",
        ),
        (
            {
                "method": {
                    "type": "supervised",
                    "supervised": {"hyperparameters": {"lora_rank": 1000}},
                }
            },
            "method.supervised.hyperparameters.lora_rank",
            "1 to 256",
        ),
        ({"metadata": {"k": "v" * 513}}, "metadata", "at most 512"),
    ],
)
def test_refusals(
    sdk: openai.OpenAI, upload: Upload, fields: dict[str, Any], param: str, words: str
) -> None:
    fields = {"model": "fake", "training_file": upload(), **fields}
    status, where, _, message = refusal(lambda: sdk.fine_tuning.jobs.create(**fields))
    assert status == (404 if param == "model" else 400)
    assert where == param and words in message, message


def test_files_that_are_for_something_else(sdk: openai.OpenAI, upload: Upload) -> None:
    for file, words in ((upload(purpose="batch"), "uploaded for batch"), (upload([]), "is empty")):
        found = refusal(
            lambda file=file: sdk.fine_tuning.jobs.create(model="fake", training_file=file)
        )
        assert found[:3] == (400, "training_file", "invalid_training_file") and words in found[3]


def test_bad_rows_are_told_by_their_lines(sdk: openai.OpenAI, upload: Upload) -> None:
    rows: list[Any] = chat_rows(12)
    rows[2] = {"messages": [{"role": "user", "content": "no answer"}]}
    rows[5] = b"{not json"
    rows[7] = {"messages": [rows[7]["messages"][0], {**rows[7]["messages"][1], "weight": 0}]}
    job = sdk.fine_tuning.jobs.create(model="fake", training_file=upload(rows))
    job = ended(sdk, job.id)
    assert job.status == "failed" and job.finished_at
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    for line in (3, 6, 8):
        assert f"line {line}: " in job.error.message
    assert "rows.jsonl: 3 of 12 rows cannot be used" in job.error.message
    assert messages(sdk, job.id)[-1] == job.error.message
    last = sdk.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert last.level == "error"
    for ask in (sdk.fine_tuning.jobs.cancel, sdk.fine_tuning.jobs.pause):
        status, _, code, message = refusal(lambda ask=ask: ask(job.id))
        assert (status, code) == (400, "invalid_job_status") and "is failed" in message


def test_a_bad_validation_file_is_told_apart(sdk: openai.OpenAI, upload: Upload) -> None:
    job = sdk.fine_tuning.jobs.create(
        model="fake", training_file=upload(), validation_file=upload([b"nothing"])
    )
    error = ended(sdk, job.id).error
    assert (error.code, error.param) == ("invalid_validation_file", "validation_file")


def test_too_few_rows(sdk: openai.OpenAI, upload: Upload) -> None:
    job = sdk.fine_tuning.jobs.create(model="fake", training_file=upload(chat_rows(9)))
    assert "has 9 rows; at least 10" in ended(sdk, job.id).error.message


def test_lists_and_events_are_paged(strict: openai.OpenAI, upload: Upload) -> None:
    file = upload()
    create = strict.fine_tuning.jobs.create
    ids = [
        create(model="fake", training_file=file, metadata={"of": "pages", "n": str(n % 2)}).id
        for n in range(5)
    ]
    for id in ids:
        strict.fine_tuning.jobs.cancel(id)
    query: Any = {"metadata[of]": "pages"}
    jobs = strict.fine_tuning.jobs
    assert [job.id for job in jobs.list(limit=2, extra_query=query)] == ids[::-1]
    page = jobs.list(limit=2, after=ids[3], extra_query=query)
    assert [job.id for job in page.data] == ids[2:0:-1] and page.has_more
    odd = jobs.list(limit=10, extra_query=query | {"metadata[n]": "1"})
    assert [job.id for job in odd.data] == [ids[3], ids[1]] and not odd.has_more
    oldest = jobs.list(limit=2, after=ids[0], extra_query=query | {"order": "asc"})
    assert [job.id for job in oldest.data] == ids[1:3] and oldest.has_more
    events = list(jobs.list_events(ids[0], limit=1))  # the SDK asks for page after page
    assert [event.message for event in events][::-1][:2] == [
        "Created fine-tuning job",
        f"Validating training file: {file}",
    ]
    assert "Job cancelled" in [event.message for event in events]
    upwards: Any = {"order": "asc"}
    assert list(jobs.list_events(ids[0], limit=1, extra_query=upwards)) == events[::-1]
    assert len({event.id for event in events}) == len(events) >= 3
    assert all(event.object == "fine_tuning.job.event" for event in events)
    assert list(jobs.checkpoints.list(ids[0])) == []


def test_what_is_not_there(sdk: openai.OpenAI, live: Live) -> None:
    jobs = sdk.fine_tuning.jobs
    asks: list[Callable[[str], Any]] = [
        jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume,
        lambda id: jobs.list_events(id), lambda id: jobs.checkpoints.list(id),
    ]  # fmt: skip
    for ask in asks:
        for id in ("ftjob-none", "x" * 300):
            assert refusal(lambda ask=ask, id=id: ask(id))[0] == 404
    assert refusal(lambda: jobs.list(after="ftjob-none"))[:2] == (404, "after")
    assert live.http().get("/v1/fine_tuning/jobs?limit=-1").status_code == 400
