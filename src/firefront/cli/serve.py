"""`firefront serve`: models behind the OpenAI API on this machine.

Its flags are Deployment's fields and the few of ServerOptions; it decides nothing else but how
threads are divided among several models.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from firefront.core.deployment import Deployment

_Flag = typer.Option


def serve(
    model: Annotated[
        list[str] | None,
        _Flag(help="Alias, file:PATH, folder, hf:ORG/NAME or pypi:...; may be repeated."),
    ] = None,
    host: Annotated[str, _Flag(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _Flag(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    deployment: Annotated[Path | None, _Flag(help="TOML file with the fields below.")] = None,
    threads: Annotated[
        int | None, _Flag(help="Compute threads of each model; several models share the cores.")
    ] = None,
    kv_dtype: Annotated[str | None, _Flag(help="KV cache: bf16, f32 or int8 (half).")] = None,
    activations: Annotated[str | None, _Flag(help="int8, or f32 to compare.")] = None,
    prefill: Annotated[str | None, _Flag(help="exact, or turbo: faster, less accurate.")] = None,
    context: Annotated[int | None, _Flag(help="Longest sequence in tokens.")] = None,
    kv_blocks: Annotated[int | None, _Flag(help="KV blocks of 16 tokens.")] = None,
    max_num_seqs: Annotated[int | None, _Flag(help="Sequences running at once.")] = None,
    token_budget: Annotated[int | None, _Flag(help="Tokens computed in one step.")] = None,
    max_waiting: Annotated[int | None, _Flag(help="Requests queued before 503.")] = None,
    prefix_cache: Annotated[
        bool | None,
        _Flag("--prefix-cache/--no-prefix-cache", help="Reuse KV blocks of equal prefixes."),
    ] = None,
    speculation: Annotated[
        str | None, _Flag(help="ngram drafts text that repeats (same tokens, sooner), or off.")
    ] = None,
    max_draft: Annotated[int | None, _Flag(help="Most tokens drafted in one step.")] = None,
    draft: Annotated[
        str | None, _Flag(help="Smaller model, same vocabulary, that drafts (same tokens, sooner).")
    ] = None,
    max_adapters: Annotated[
        int | None, _Flag(help="Adapters in memory at once; by default what fits.")
    ] = None,
    price: Annotated[
        str | None, _Flag(help="IN/OUT: dollars for a million tokens of prompts and of answers.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        _Flag(help="NAME=FOLDER or BASE:NAME=FOLDER: load an adapter; may be repeated."),
    ] = None,
    store: Annotated[
        str | None,
        _Flag(
            envvar="FIREFRONT_STORE",
            show_envvar=True,
            help="postgresql://... for what is kept; a file below FIREFRONT_HOME if absent.",
        ),
    ] = None,
    drain_timeout: Annotated[
        float, _Flag(min=0, help="Seconds that running requests get after SIGTERM.")
    ] = 30.0,
    insecure: Annotated[
        bool, _Flag("--insecure", help="Listen beyond this machine without keys.")
    ] = False,
    require_key: Annotated[
        bool, _Flag("--require-key", help="Refuse requests without a key (not yet there).")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, _Flag(help="A further name in Host and Origin to accept on loopback.")
    ] = None,
) -> None:
    """Serve models over the OpenAI API."""
    given = dict(locals())
    from firefront.core.deployment import Deployment

    fields = {name: given[name] for name in Deployment.__struct_fields__ if name != "model"}
    deployments = resolve_deployments(model or [], deployment, fields)
    from firefront.gateway.server import ServerOptions, run  # heavy

    options = ServerOptions(
        host=host,
        port=port,
        store=store,
        adapters=[split_adapter(text) for text in adapter or []],
        drain_timeout_s=drain_timeout,
        insecure=insecure,
        require_key=require_key,
        allowed_hosts=allowed_host or [],
    )
    raise typer.Exit(run(deployments, options))


def split_adapter(text: str) -> tuple[str, Path]:
    """The name and the folder in `text`; whether they can be is found out later."""
    from firefront.core.errors import RequestError

    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise RequestError(
            f"--adapter {text}: write NAME=FOLDER or BASE:NAME=FOLDER", param="adapter"
        )
    return name, Path(folder).expanduser()


def resolve_deployments(
    models: list[str], file: Path | None, fields: dict[str, Any]
) -> "list[Deployment]":
    """One Deployment a model; prints how the cores are divided when there are several."""
    import msgspec

    from firefront.core.deployment import load_deployment
    from firefront.core.errors import RequestError

    if not models and file is None and "FIREFRONT_MODEL" not in os.environ:
        raise RequestError("--model: name a model, for example --model FILE.gguf", param="model")
    names: list[str | None] = [*models] or [None]
    deployments = [load_deployment(file, model=name, **fields) for name in names]
    undecided = [d for d in deployments if d.threads == 0]
    if len(deployments) == 1 or not undecided:
        return deployments
    from firefront.backends.cpu.machine import num_cpus

    share = max(1, num_cpus() // len(deployments))
    typer.echo(f"{len(deployments)} models, {share} threads each; --threads sets another number")
    return [msgspec.structs.replace(d, threads=d.threads or share) for d in deployments]
