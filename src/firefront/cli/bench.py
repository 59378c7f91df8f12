"""`firefront bench engine`: speeds of the engine on this machine, in the format of design notes."""

from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Measure this machine."""


@app.command()
def engine(
    model: str = typer.Option("starter", help="model name or spec"),
    threads: int = typer.Option(0, min=0, help="compute threads; 0: chosen from the machine"),
    runs: int = typer.Option(3, min=1, help="times each figure is measured; the median counts"),
    streams: str = typer.Option("1,4,16,32", help="streams to decode at"),
    activations: str | None = typer.Option(None, help="int8 or f32"),
    probe: Path | None = typer.Option(None, help="program built from tools/probe.c"),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """Measure prefill, decode and time to first token, without server or network."""
    import sys

    from firefront.backends.cpu.machine import num_cpus
    from firefront.cli.output import print_json
    from firefront.core.deployment import load_deployment
    from firefront.core.errors import RequestError
    from firefront.engine.bench import run_bench
    from firefront.engine.load import load_engine
    from firefront.weights import fetch
    from firefront.weights.model_store import ModelStore, file_sha256
    from firefront.weights.progress import default_progress

    try:
        counts = tuple(int(text) for text in streams.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise RequestError(f"--streams {streams}: write numbers such as 1,4,16", param="streams")
    store = ModelStore()
    path = fetch.resolve(model, store=store, progress=default_progress())
    stored = store.get(fetch.find(model, store).name)
    sha256 = stored.sha256 if stored else file_sha256(path) if path.is_file() else None
    deployment = load_deployment(
        None, model=model, threads=threads or num_cpus(), activations=activations
    )

    def note(text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)

    result = run_bench(
        path, deployment, load_engine, sha256=sha256, probe=probe, num_runs=runs, streams=counts,
        note=note,
    )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from firefront.cli.output import human_bytes, print_pairs

    def speed(figure: dict[str, Any]) -> str:
        share = f"  {figure['share']:.0%} of the limit" if figure["share"] is not None else ""
        return f"{figure['tok_s']:.1f} tokens/s{share}"

    ttft = result["ttft_1000"]
    print_pairs(
        [
            ("model", result["model"]),
            ("machine class", result["class"] or "not probed"),
            ("prefill 512", speed(result["prefill_512"])),
            *((f"decode x{n}", speed(figure)) for n, figure in result["decode"].items()),
            ("first token of 1000", f"{ttft['cold']:.3f} s cold, {ttft['cached']:.3f} s cached"),
            ("load", f"{result['load_s']:.2f} s"),
            ("peak memory", human_bytes(result["peak_rss_bytes"])),
        ]
    )
