"""`firefront adapters`: load, list and remove adapters, in a running server or in the store.

With a server they go over its API; without one what is loaded here is served at the next start.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import typer

DEFAULT_URL = "http://127.0.0.1:8000"
_PROBE_S = 0.5
_KEY = "FIREFRONT_API_KEY"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_Url = Annotated[
    str | None, typer.Option(help=f"Server to ask; {DEFAULT_URL} if absent and there is one.")
]
_Store = Annotated[
    str | None,
    typer.Option(envvar="FIREFRONT_STORE", show_envvar=True, help="As for serve; without server."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Facts = dict[str, Any]


@app.callback()
def root() -> None:
    """Load, list and remove adapters (LoRA in PEFT's format)."""


@app.command()
def load(
    name: Annotated[str, typer.Argument(help="What to call it: NAME, or BASE:NAME.")],
    folder: Annotated[Path, typer.Argument(help="Folder with PEFT's two files.")],
    model: Annotated[
        str | None, typer.Option(help="Its base: a name or spec; needed unless NAME says it.")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Once in memory it stays there.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of the one called so.")
    ] = False,
    url: _Url = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Copy an adapter, check that it fits its base, and serve it as BASE:NAME."""
    from firefront.cli.output import print_json

    place = _place(url, store)
    facts = place.load(name, folder.expanduser().absolute(), model, pin=pin, replace=replace)
    if as_json:
        print_json(facts)
    else:
        targets = ", ".join(facts["targets"])
        print(f"{facts['model']}: rank {facts['rank']} on {targets}; {place.when}")


@app.command()
def ls(url: _Url = None, store: _Store = None, as_json: _Json = False) -> None:
    """List the adapters."""
    from firefront.cli.output import print_json, print_table

    found = _place(url, store).list()
    if as_json:
        print_json({"adapters": found})
    elif found:
        rows = [
            (
                facts["model"],
                str(facts["rank"]),
                ",".join(facts["targets"]),
                facts["sha256"][:12],
                "yes" if facts["is_pinned"] else "-",
            )
            for facts in found
        ]
        print_table(("MODEL", "RANK", "TARGETS", "SHA256", "PINNED"), rows)
    else:
        print("no adapters yet; load one with: firefront adapters load NAME FOLDER --model BASE")


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(help="BASE:NAME, or NAME.", metavar="NAME...")],
    url: _Url = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Delete adapters. Requests that run on one go on to their end."""
    from firefront.cli.output import print_json

    place = _place(url, store)
    removed = []
    for name in names:
        removed.append(place.remove(name))
        if not as_json:
            print(f"removed {removed[-1]}")
    if as_json:
        print_json({"removed": removed})


class _Place(Protocol):
    """Where adapters are. `when`: when one that was loaded there is served."""

    when: str

    def load(
        self, name: str, folder: Path, model: str | None, *, pin: bool, replace: bool
    ) -> Facts: ...
    def list(self) -> list[Facts]: ...
    def remove(self, name: str) -> str: ...


class _Server:
    """A server that runs, over its API."""

    def __init__(self, url: str) -> None:
        import httpx2

        from firefront.core.errors import RequestError

        base = url.rstrip("/").removesuffix("/v1")
        if not base.startswith(("http://", "https://")):
            raise RequestError(f"--url {url}: must start with http:// or https://", param="url")
        self.when = f"served now at {base}"
        headers = {"Authorization": f"Bearer {os.environ.get(_KEY, 'local')}"}
        timeout = httpx2.Timeout(10.0, read=600.0)
        self._client = httpx2.Client(base_url=f"{base}/v1", headers=headers, timeout=timeout)

    def load(
        self, name: str, folder: Path, model: str | None, *, pin: bool, replace: bool
    ) -> Facts:
        body = {
            "lora_name": name,
            "lora_path": str(folder),
            "base_model_name": model,
            "is_pinned": pin,
            "load_inplace": replace,
        }
        self._send("POST", "/load_lora_adapter", json=body)
        full = f"{model}:{name}" if model is not None and ":" not in name else name
        return _of_card(self._send("GET", f"/models/{quote(full)}").json())

    def list(self) -> list[Facts]:
        cards = self._send("GET", "/models").json()["data"]
        return [_of_card(card) for card in cards if card.get("adapter")]

    def remove(self, name: str) -> str:
        return str(self._send("DELETE", f"/models/{quote(name)}").json()["id"])

    def _send(self, method: str, path: str, **options: Any) -> Any:
        import httpx2

        from firefront.cli.talk import check_answer
        from firefront.core.errors import ReplicaError

        try:
            response = self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise ReplicaError(
                f"{self._client.base_url}: {error}; is the server running?"
            ) from None
        check_answer(response)
        return response


class _Kept:
    """The store of this machine, while no server has it open or until it is started anew."""

    when = "served as soon as a server of its base starts"

    def __init__(self, url: str | None) -> None:
        from firefront.gateway.auth import LOCAL_ACCOUNT
        from firefront.gateway.registering import open_contents
        from firefront.store.store import Store

        self._account = LOCAL_ACCOUNT
        self._store = Store.open(url)
        self._contents = open_contents(self._store)

    def load(
        self, name: str, folder: Path, model: str | None, *, pin: bool, replace: bool
    ) -> Facts:
        from firefront.core.errors import RequestError
        from firefront.gateway.registering import BaseModel, keep, prepare
        from firefront.store.adapters import checked_name
        from firefront.weights import fetch

        said, colon, bare = name.rpartition(":")
        spec = model if model is not None else said
        if not spec:
            raise RequestError(
                "--model: say which base it is for, for example --model starter", param="model"
            )
        base = BaseModel(fetch.model_name(spec), str(fetch.find_here(spec)))
        if colon and said != base.name:
            raise RequestError(f"{name}: names another base than {base.name}", param="name")
        checked_name(bare, "name")
        prepared = prepare(self._contents, folder, base)
        row = keep(
            self._store, self._contents, self._account, prepared,
            name=bare, replaces=replace, is_pinned=pin,
        )  # fmt: skip
        return _of_row(row)

    def list(self) -> list[Facts]:
        page = self._store.adapters.list(self._account, limit=10_000, order="asc")
        return [_of_row(row) for row in page.items]

    def remove(self, name: str) -> str:
        from firefront.core.errors import NotFoundError, RequestError
        from firefront.gateway.registering import collect

        found = [facts for facts in self.list() if name in (facts["model"], facts["name"])]
        if not found:
            raise NotFoundError(f"no adapter {name!r}; firefront adapters ls lists them")
        if len(found) > 1:
            choices = " or ".join(facts["model"] for facts in found)
            raise RequestError(f"{name!r} is ambiguous; say {choices}", param="name")
        self._store.adapters.delete(self._account, found[0]["id"])
        collect(self._store, self._contents, found[0]["sha256"])
        return str(found[0]["model"])


def _place(url: str | None, store: str | None) -> _Place:
    """The server at `url`, or one that runs at the usual place, or else the store."""
    if url is None and _answers(DEFAULT_URL):
        url = DEFAULT_URL
    return _Server(url) if url is not None else _Kept(store)


def _answers(url: str) -> bool:
    """Whether a server of ours is there."""
    import httpx2

    try:
        cards = httpx2.get(f"{url}/v1/models", timeout=_PROBE_S).json()["data"]
        return bool(cards[0]["owned_by"] == "firefront")
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return False


def _of_card(card: Facts) -> Facts:
    return {"model": card["id"], "base": card["parent"], **card["adapter"]}


def _of_row(row: Any) -> Facts:
    names = ("id", "name", "rank", "targets", "sha256", "is_pinned", "job_id")
    facts = {name: getattr(row, name) for name in names}
    return {"model": f"{row.base}:{row.name}", "base": row.base, **facts}
