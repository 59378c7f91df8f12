"""`firefront bench`: speeds of the engine on this machine, and where a step's time goes."""

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
        None, model=model, threads=threads or num_cpus(), activations=activations,
        speculation="off",  # outputs of random prompts repeat themselves: drafts would flatter
    )  # fmt: skip

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


@app.command()
def profile(
    model: str = typer.Option("starter", help="model name or spec"),
    prefill: int = typer.Option(0, min=0, help="profile a prompt of so many tokens"),
    decode: int = typer.Option(1, min=1, help="or a step of so many decoding streams"),
    context: int = typer.Option(160, min=1, help="tokens in each stream's cache"),
    threads: int = typer.Option(0, min=0, help="compute threads; 0: chosen from the machine"),
    runs: int = typer.Option(21, min=1, help="steps measured; the median counts"),
    option: list[str] = typer.Option([], help="deployment field, NAME=VALUE, e.g. kv_dtype=int8"),
    probe: Path | None = typer.Option(None, help="program built from tools/probe.c"),
    as_json: bool = typer.Option(False, "--json", help="print JSON, every op by itself"),
) -> None:
    """Measure where one step's time goes: ops, packing, barriers, and their share of the limit."""
    from firefront.backends.cpu.executor import load
    from firefront.cli.output import print_json, print_table
    from firefront.core.deployment import load_deployment
    from firefront.core.errors import RequestError
    from firefront.core.step import BLOCK_SIZE
    from firefront.engine.profile import run_profile
    from firefront.ops import Sizes
    from firefront.weights import fetch
    from firefront.weights.checkpoint import bytes_per_weight, open_checkpoint
    from firefront.weights.progress import default_progress

    fields = dict(text.partition("=")[::2] for text in option)
    if not all(fields.values()):
        raise RequestError("--option: write NAME=VALUE", param="option")
    sizes = Sizes.prefill(prefill) if prefill else Sizes.decode(decode, context)
    room = sum(sizes.seq_lens) + 16 * len(sizes.seq_lens)
    deployment = load_deployment(
        None, model=model, threads=threads, context=max(sizes.seq_lens), kv_blocks=room // 16 + 1,
        token_budget=max(16, sizes.of("T")), max_num_seqs=len(sizes.seq_lens), **fields,
    )  # fmt: skip
    path = fetch.resolve(model, progress=default_progress())
    with open_checkpoint(path) as checkpoint:
        scheme_of, config = bytes_per_weight(checkpoint), checkpoint.config
    executor = load(path, deployment)
    elements = 2 * config.num_kv_heads * config.head_dim * config.num_layers * BLOCK_SIZE
    kv_bytes = executor.kv_block_bytes / elements  # int8 has its scales beside it
    result = run_profile(executor, sizes, scheme_of, runs, probe, kv_bytes)
    if as_json:
        print_json(result)
        return
    rows: list[tuple[str, ...]] = []
    for part in result["kinds"]:
        share = "" if part["share"] is None else f"{part['share']:.0%}"
        rows.append((
            part["name"], f"{part['time_us']:.0f}", f"{part['time_us'] / result['step_us']:.0%}",
            f"{part['bytes'] / 1e6:.1f}", f"{part['ops'] / 1e6:.0f}", share,
        ))  # fmt: skip
    print_table(("op", "us", "of step", "MB", "Mop", "share of limit"), rows)
    print(f"step {result['step_us']:.0f} us, {result['tokens']} tokens")


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
            *(
                (f"Python x{n}", f"{share:.1%} of the time")
                for n, share in result["python_share"].items()
                if share is not None
            ),
            ("first token of 1000", f"{ttft['cold']:.3f} s cold, {ttft['cached']:.3f} s cached"),
            ("load", f"{result['load_s']:.2f} s"),
            ("peak memory", human_bytes(result["peak_rss_bytes"])),
        ]
    )
