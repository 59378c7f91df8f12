"""`firefront tune`: from a file of rows to a tuned model, on a running server or right here.

Owns what is shown while it goes on and where the report goes. Both ways are one job of the queue.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import typer

_POLL_S = 0.5
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_ANSWER_TOKENS = 256
_ENDED = ("succeeded", "failed", "cancelled")
Json = dict[str, Any]


def tune(
    data: Path = typer.Argument(help="JSONL: OpenAI's chat or preference rows"),
    base: str = typer.Option(..., "--base", help="the model to tune: name or spec"),
    valid: Path | None = typer.Option(None, help="rows to judge by; some are held out otherwise"),
    rank: int | None = typer.Option(None, help="of the adapter [default: tried out]"),
    lr: float | None = typer.Option(None, help="highest learning rate [default: tried out]"),
    epochs: int | None = typer.Option(None, help="passes over the rows [default: by the rows]"),
    method: str = typer.Option("supervised", help="supervised or dpo"),
    suffix: str | None = typer.Option(None, help="for the tuned model's name"),
    seed: int = typer.Option(0, min=0, help="same seed, same rows: same adapter"),
    url: str | None = typer.Option(None, help="a running server instead of this process"),
    report: Path | None = typer.Option(None, help="[default: DATA's name with .report.html]"),
    ask: str | None = typer.Option(None, help="what to ask the tuned model at the end"),
) -> None:
    """Tune a model on the rows of a file, judge it, and say how to talk with it."""
    from firefront.core.errors import FirefrontError
    from firefront.tuning.line_files import replacing

    given = {"n_epochs": epochs, "learning_rate": lr, "lora_rank": rank}
    hyperparameters = {name: value for name, value in given.items() if value is not None}
    with _server(url, base) if url is not None else _here(base) as place:
        files = {"training_file": place.upload(data)}
        if valid is not None:
            files["validation_file"] = place.upload(valid)
        job = place.create(
            {
                **files,
                "model": place.model,
                "method": {"type": method, method: {"hyperparameters": hyperparameters}},
                "suffix": suffix,
                "seed": seed,
            }
        )
        print(f"job {job['id']}", flush=True)
        job = _follow(place, job["id"])
        if job["status"] != "succeeded":
            reason = (job["error"] or {}).get("message", f"the job was {job['status']}")
            raise FirefrontError(reason)
        for file_id in job["result_files"]:
            if file_id.endswith("-report"):
                path = report or data.with_name(f"{data.stem}.report.html")
                with replacing(path) as file:
                    file.write(place.content(file_id))
                print(f"report: {path}")
        print(f"tuned model: {job['fine_tuned_model']}")
        print(place.advice(job["fine_tuned_model"]))
        if ask is not None:
            print(f"{ask}\n{_printable(place.answer(job['fine_tuned_model'], ask))}")


class _Place(Protocol):
    """Where jobs are: a server, or the store of this machine."""

    model: str

    def upload(self, path: Path) -> str: ...
    def create(self, body: Json) -> Json: ...
    def job(self, id: str) -> Json: ...
    def events(self, id: str, after: str | None) -> list[Json]: ...
    def content(self, file_id: str) -> bytes: ...
    def advice(self, model: str) -> str: ...
    def answer(self, model: str, question: str) -> str: ...


def _follow(place: _Place, id: str) -> Json:
    """Show what is said until the job has ended; the job."""
    import sys
    import time

    losses: list[float] = []
    last: str | None = None
    while True:
        job = place.job(id)  # before its events: the last of them are there when it has ended
        while events := place.events(id, last):
            last = events[-1]["id"]
            for event in events:
                if (loss := event["data"].get("train_loss")) is not None:
                    losses.append(loss)
                    if sys.stdout.isatty():
                        print(f"\r\x1b[K{_curve(losses)} {event['message']}", end="", flush=True)
                        continue
                before = "\r\x1b[K" if sys.stdout.isatty() else ""
                print(f"{before}{_printable(event['message'])}", flush=True)
        if job["status"] in _ENDED:
            return job
        time.sleep(_POLL_S)


def _curve(losses: list[float]) -> str:
    """The losses so far, as a line of bars."""
    step = -(-len(losses) // _WIDTH)
    shown = [max(losses[i : i + step]) for i in range(0, len(losses), step)]
    low, high = min(shown), max(shown)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in shown)


def _printable(text: str) -> str:
    """`text` without what could steer a terminal."""
    return "\n".join(
        "".join(char if char.isprintable() else "?" for char in line) for line in text.split("\n")
    )


@contextmanager
def _server(url: str, base: str) -> Iterator[_Place]:
    from firefront.cli.api import Api

    api = Api(url)

    class Server:
        model = base

        upload = staticmethod(api.upload)
        def create(self, body: Json) -> Json:
            return dict(api.json("POST", "/fine_tuning/jobs", json=body))

        def job(self, id: str) -> Json:
            return dict(api.json("GET", f"/fine_tuning/jobs/{id}"))

        def events(self, id: str, after: str | None) -> list[Json]:
            query = {"order": "asc", "limit": "100"} | ({"after": after} if after else {})
            return list(api.json("GET", f"/fine_tuning/jobs/{id}/events", params=query)["data"])

        def content(self, file_id: str) -> bytes:
            return bytes(api.send("GET", f"/files/{file_id}/content").content)

        def advice(self, model: str) -> str:
            return f"ask for it by this name at {api.url}"

        def answer(self, model: str, question: str) -> str:
            messages = [{"role": "user", "content": question}]
            body = {"model": model, "messages": messages, "temperature": 0}
            body |= {"max_tokens": _ANSWER_TOKENS}
            said = api.json("POST", "/chat/completions", json=body)
            return str(said["choices"][0]["message"]["content"])

    try:
        yield Server()
    finally:
        api.close()


@contextmanager
def _here(spec: str) -> Iterator[_Place]:
    """The store of this machine; a thread of ours has processes work on its jobs."""
    import logging
    import sys

    import structlog

    from firefront.gateway.fine_tuning.local import LocalJobs
    from firefront.weights import fetch
    from firefront.weights.progress import default_progress

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    path = fetch.resolve(spec, progress=default_progress())
    jobs = LocalJobs(fetch.model_name(spec), str(path))
    try:

        class Here:
            model = jobs.model

            def upload(self, path: Path) -> str:
                with _opened(path) as file:
                    return jobs.upload(path.name, file)

            create = staticmethod(jobs.create)
            job = staticmethod(jobs.job)
            events = staticmethod(jobs.events)
            content = staticmethod(jobs.content)

            def advice(self, model: str) -> str:
                return f"firefront serve --model {spec}    then ask for {model}"

            def answer(self, model: str, question: str) -> str:
                from firefront.core.sampling import SamplingParams
                from firefront.llm import LLM

                sampling = SamplingParams(temperature=0.0, max_tokens=_ANSWER_TOKENS)
                messages = [{"role": "user", "content": question}]
                ref = jobs.adapter(model)
                said = LLM(str(path)).chat(messages, sampling, adapter=ref)
                return said[0].outputs[0].text

        yield Here()
    finally:
        jobs.close()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from firefront.core.errors import RequestError

    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}", param="data") from None
