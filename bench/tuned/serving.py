"""Steps with time in them: the loop by one command and by the SDK, first tokens beside a job."""

import json
import random
import statistics
import string
import subprocess
import sys
import time
from typing import Any

from bench.served import served
from bench.tuned.place import MODEL, Json, Place

LOOP_ROWS = 100
QUESTION = "I lost my card, what do I do?"
NUM_ASKED = 200  # requests of each arm
THINK_S = 0.25  # from an answer to the next question
ANSWER_LEN = 16


def loop(place: Place) -> Json:
    """From a file of rows to an answer of the tuned model, by one command, all `auto`."""
    rows = place.some("banking77", LOOP_ROWS)
    command = [sys.executable, "-m", "firefront", "tune", str(rows), "--base", MODEL]
    started_s = time.perf_counter()
    done = subprocess.run(
        [*command, "--suffix", "loop", "--ask", QUESTION],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started_s
    return {
        "rows": LOOP_ROWS,
        "seconds": round(seconds, 1),
        "answer": done.stdout.strip().splitlines()[-1],
    }


def sdk(place: Place) -> Json:
    """The same by the official SDK on a server."""
    import openai

    with served(MODEL) as (_, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        started_s = time.perf_counter()
        job = _job(client, place, LOOP_ROWS)
        while job.status not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.5)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.fine_tuned_model is not None, job.error
        said = client.chat.completions.create(
            model=job.fine_tuned_model,
            messages=[
                {"role": "system", "content": _system(place)},
                {"role": "user", "content": QUESTION},
            ],
            max_tokens=32,
            temperature=0,
        )
        seconds = time.perf_counter() - started_s
    return {
        "rows": LOOP_ROWS,
        "seconds": round(seconds, 1),
        "answer": said.choices[0].message.content,
    }


def waiting(place: Place) -> Json:
    """Seconds to the first token, of one user at a time, on an idle server and while it tunes."""
    import openai

    with served(MODEL) as (_, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        _first_tokens(client, 20)
        before = _first_tokens(client, NUM_ASKED)
        job = _job(client, place, 1000)
        while not _trains(client, job.id):
            time.sleep(0.5)
        during = _first_tokens(client, NUM_ASKED)
        job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "running", job.status  # else the second arm was idle too
        client.fine_tuning.jobs.cancel(job.id)
        after = _first_tokens(client, NUM_ASKED)
    idle = [*before, *after]
    shown = {"idle": _shown(idle), "during": _shown(during)}
    ratios = {
        f"ratio_{name}": round(shown["during"][f"{name}_ms"] / shown["idle"][f"{name}_ms"], 2)
        for name in ("p50", "p99")
    }
    return {**shown, **ratios}


def _job(client: Any, place: Place, num_rows: int) -> Any:
    with place.some("banking77", num_rows).open("rb") as file:
        uploaded = client.files.create(file=file, purpose="fine-tune")
    return client.fine_tuning.jobs.create(model=MODEL, training_file=uploaded.id)


def _trains(client: Any, job_id: str) -> bool:
    events = client.fine_tuning.jobs.list_events(job_id, limit=5).data
    return any("training loss" in event.message for event in events)


def _system(place: Place) -> str:
    first = place.some("banking77", LOOP_ROWS).read_text().splitlines()[0]
    return str(json.loads(first)["messages"][0]["content"])


def _first_tokens(client: Any, num: int) -> list[float]:
    """Prompts of some 60 tokens that nobody has asked before."""
    rng = random.Random(time.time_ns())
    found = []
    for _ in range(num):
        words = ["".join(rng.choices(string.ascii_lowercase, k=5)) for _ in range(16)]
        started_s = time.perf_counter()
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": " ".join(words)}],
            max_tokens=ANSWER_LEN,
            stream=True,
            temperature=0,
        )
        first_s = None
        for chunk in stream:
            if first_s is None and chunk.choices and chunk.choices[0].delta.content:
                first_s = time.perf_counter() - started_s
        if first_s is not None:
            found.append(first_s)
        time.sleep(THINK_S)
    return found


def _shown(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "requests": len(seconds),
        "p50_ms": round(cuts[49] * 1e3, 1),
        "p99_ms": round(cuts[98] * 1e3, 1),
    }
