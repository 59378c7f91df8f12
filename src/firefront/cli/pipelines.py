"""`firefront pipelines`: from data to a model that serves, on a running server, over its API.

Owns the words on the terminal. A pipeline is named by its id, or by the name of its model.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firefront.cli.api import DEFAULT_URL

if TYPE_CHECKING:
    from firefront.cli.api import Api

_POLL_S = 0.5
_PAGE = "100"
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_Url = Annotated[str, typer.Option(help="The server.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(help="Its id, NAME or BASE:NAME.")]
Json = dict[str, Any]


@app.callback()
def root() -> None:
    """Data, tuning, evaluation and a share of the traffic as one object, run again and again."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its model is asked for as BASE:NAME.")],
    base: Annotated[str, typer.Option(help="A base model that the server serves.")],
    data: Annotated[Path | None, typer.Option(help="Rows, JSONL; else --traffic.")] = None,
    traffic: Annotated[
        str | None,
        typer.Option(help='Filters of stored completions, JSON: {"min_score": 0.5}; {} for all.'),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Rows to judge by; some are held out otherwise.")
    ] = None,
    forget: Annotated[
        list[Path], typer.Option(help="A text or rows that it must not be worse on.")
    ] = [],  # noqa: B006 (typer reads it)
    share: Annotated[
        float | None, typer.Option(help="Of the requests, for a new version's canary.")
    ] = None,
    min_requests: Annotated[
        int | None, typer.Option(help="That a new version must have answered.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="[default: tried out]")] = None,
    lr: Annotated[float | None, typer.Option(help="[default: tried out]")] = None,
    epochs: Annotated[int | None, typer.Option(help="[default: by the rows]")] = None,
    seed: Annotated[int | None, typer.Option(help="[default: another for each run]")] = None,
    url: _Url = DEFAULT_URL,
) -> None:
    """Make a pipeline; its model answers at once, by the base."""
    import json

    from firefront.core.errors import RequestError

    api = _api(url)
    rows: Json = {}
    if data is not None:
        rows["file"] = api.upload(data)
    if traffic is not None:
        try:
            rows["traffic"] = json.loads(traffic)
        except ValueError as error:
            raise RequestError(f"--traffic: is no JSON: {error}", param="traffic") from None
    judged: Json = {"forget": [api.upload(path) for path in forget]}
    if evaluation is not None:
        judged["file"] = api.upload(evaluation)
    chosen = {"n_epochs": epochs, "learning_rate": lr, "lora_rank": rank}
    body = {
        "model": base,
        "name": name,
        "data": rows,
        "tuning": {"hyperparameters": _given(chosen), **_given({"seed": seed})},
        "evaluation": judged,
        "canary": _given({"share": share, "min_requests": min_requests}),
    }
    made = api.json("POST", "/firefront/pipelines", json=body)
    print(f"{made['id']}: {made['served_as']} answers at {api.url}")
    print(f"firefront pipelines run {made['name']} makes a version of it")


@app.command()
def run(
    name: _Name,
    replay: Annotated[
        str | None, typer.Option(help="A run to make again; nothing is promoted.")
    ] = None,
    url: _Url = DEFAULT_URL,
) -> None:
    """Run a pipeline and show what happens. Interrupted, it goes on in the server."""
    from firefront.core.errors import FirefrontError

    api = _api(url)
    path = f"/firefront/pipelines/{_find(api, name)['id']}/runs"
    made = api.json("POST", path, json=_given({"replay": replay}))
    print(made["id"], flush=True)
    ended = _follow(api, f"{path}/{made['id']}")
    if ended["status"] != "succeeded":
        reason = (ended["error"] or {}).get("message", f"the run was {ended['status']}")
        raise FirefrontError(reason)
    print(f"result: {ended['result']}")


@app.command()
def ls(url: _Url = DEFAULT_URL, as_json: _Json = False) -> None:
    """List the pipelines."""
    from firefront.cli.output import print_json, print_table

    found = _all(_api(url))
    if as_json:
        print_json({"pipelines": found})
    elif found:
        rows = [
            (
                one["id"],
                one["served_as"],
                str(one["version"] or "-"),
                one["serves"],
                one["trial"]["model"] if one["trial"] else "-",
            )
            for one in found
        ]
        print_table(("ID", "MODEL", "VERSION", "SERVED BY", "TRIED"), rows)


@app.command()
def show(name: _Name, url: _Url = DEFAULT_URL, as_json: _Json = False) -> None:
    """Show a pipeline, its versions and its last runs."""
    from firefront.cli.output import print_json, print_pairs, print_table

    api = _api(url)
    found = _find(api, name)
    runs = api.json("GET", f"/firefront/pipelines/{found['id']}/runs")["data"]
    if as_json:
        print_json({**found, "runs": runs})
        return
    print_pairs(
        [("id", found["id"]), ("model", found["served_as"]), ("served by", found["serves"])]
    )
    if found["versions"]:
        print()
        print_table(
            ("VERSION", "MODEL", "RUN"),
            [(str(one["number"]), one["model"], one["run_id"]) for one in found["versions"]],
        )
    if runs:
        print()
        rows = [
            (
                one["id"],
                one["status"],
                one["result"] or "-",
                one["steps"][-1]["kind"] if one["steps"] else "-",
                " ".join(one["reasons"]) or (one["error"] or {}).get("message", ""),
            )
            for one in runs
        ]
        print_table(("RUN", "STATUS", "RESULT", "STEP", "WHY"), rows)


@app.command()
def promote(
    name: _Name,
    run: Annotated[str, typer.Argument(help="Its id; one that was held back or rolled back too.")],
    url: _Url = DEFAULT_URL,
) -> None:
    """Have a run's version serve, for requests from now on."""
    api = _api(url)
    path = f"/firefront/pipelines/{_find(api, name)['id']}/promote"
    found = api.json("POST", path, json={"run": run})
    print(f"{found['served_as']} is served by {found['serves']}")


@app.command()
def cancel(
    name: _Name,
    run: Annotated[str, typer.Argument(help="Its id.")],
    url: _Url = DEFAULT_URL,
) -> None:
    """End a run and what it began; what serves goes on serving."""
    api = _api(url)
    api.json("POST", f"/firefront/pipelines/{_find(api, name)['id']}/runs/{run}/cancel")
    print(f"{run} was cancelled")


@app.command()
def rollback(
    name: _Name,
    version: Annotated[
        int | None, typer.Option(help="0: the base. [default: the one before]")
    ] = None,
    url: _Url = DEFAULT_URL,
) -> None:
    """Have another version serve, for requests from now on."""
    api = _api(url)
    path = f"/firefront/pipelines/{_find(api, name)['id']}/rollback"
    found = api.json("POST", path, json=_given({"version": version}))
    print(f"{found['served_as']} is served by {found['serves']}")


@app.command()
def rm(name: _Name, url: _Url = DEFAULT_URL) -> None:
    """Delete a pipeline; its versions stay, under their own names."""
    api = _api(url)
    found = _find(api, name)
    api.send("DELETE", f"/firefront/pipelines/{found['id']}")
    print(f"{found['served_as']} is gone")


def _api(url: str) -> "Api":
    from firefront.cli.api import Api

    return Api(url)


def _given(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _all(api: "Api") -> list[Json]:
    found: list[Json] = []
    query = {"limit": _PAGE, "order": "asc"}
    while True:
        page = api.json("GET", "/firefront/pipelines", params=query)
        found += page["data"]
        if not page["has_more"]:
            return found
        query["after"] = page["last_id"]


def _find(api: "Api", name: str) -> Json:
    """The one that is called so."""
    from firefront.core.errors import NotFoundError, RequestError

    found = [one for one in _all(api) if name in (one["id"], one["name"], one["served_as"])]
    if not found:
        raise NotFoundError(f"no pipeline {name!r}; firefront pipelines ls lists them")
    if len(found) > 1:
        choices = " or ".join(one["served_as"] for one in found)
        raise RequestError(f"{name!r} is ambiguous; say {choices}")
    return found[0]


def _follow(api: "Api", path: str) -> Json:
    """Print what happens until the run has ended; the run."""
    import time

    last: str | None = None
    told = (0, 0)
    while True:
        now: Json = api.json("GET", path)
        query = {"order": "asc", "limit": _PAGE, **_given({"after": last})}
        for event in api.json("GET", f"{path}/events", params=query)["data"]:
            last = event["id"]
            print(event["message"], flush=True)
        tried, control = now["canary"]["tried"], now["canary"]["control"]
        if tried is not None and told != (tried["requests"], control["requests"]):
            told = tried["requests"], control["requests"]
            print(f"canary: {told[0]} requests, {told[1]} by what serves", flush=True)
        if now["finished_at"] is not None:
            return now
        time.sleep(_POLL_S)
