"""`firefront adapters`: load, list and remove adapters, in a running server or in the store.

With a server they go over its API; without one what is loaded here is served at the next start.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firefront.cli.api import DEFAULT_URL

if TYPE_CHECKING:
    from firefront.cli.adapter_merge import Merge
    from firefront.cli.adapter_places import Kept

MAX_TEXT_CHARS = 1 << 20

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


@app.callback()
def root() -> None:
    """Load, list and remove adapters (LoRA in PEFT's format)."""


@app.command()
def load(
    name: Annotated[str, typer.Argument(help="What to call it: NAME, or BASE:NAME.")],
    folder: Annotated[
        Path, typer.Argument(help="Folder with PEFT's two files, or a GGUF of llama.cpp's.")
    ],
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
    from firefront.cli.adapter_places import place_of
    from firefront.cli.output import print_json

    place = place_of(url, store)
    facts = place.load(name, folder.expanduser().absolute(), model, pin=pin, replace=replace)
    if as_json:
        print_json(facts)
    else:
        targets = ", ".join(facts["targets"])
        print(f"{facts['model']}: rank {facts['rank']} on {targets}; {place.when}")


@app.command()
def ls(url: _Url = None, store: _Store = None, as_json: _Json = False) -> None:
    """List the adapters."""
    from firefront.cli.adapter_places import place_of
    from firefront.cli.output import print_json, print_table

    found = place_of(url, store).list()
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
    from firefront.cli.adapter_places import place_of
    from firefront.cli.output import print_json

    place = place_of(url, store)
    removed = []
    for name in names:
        removed.append(place.remove(name))
        if not as_json:
            print(f"removed {removed[-1]}")
    if as_json:
        print_json({"removed": removed})


@app.command()
def merge(
    name: Annotated[str, typer.Argument(help="BASE:NAME, or NAME.")],
    output: Annotated[Path, typer.Option(help="Folder for the merged model; a new one.")],
    format: Annotated[
        str | None, typer.Option(help="safetensors or gguf; by default what the base is.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of what is changed: bf16, f16 or f32.")] = "bf16",
    model: Annotated[
        str | None, typer.Option(help="Its base, if that is not known by its name.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="File to compare on; by default a text of ours.")
    ] = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Write the base with the adapter in its weights, and compare the two.

    Serving needs no merging: an adapter costs little beside its base, and hundreds share one.
    """
    from firefront.cli import adapter_merge
    from firefront.cli.adapter_places import Kept
    from firefront.cli.output import print_json, print_pairs

    wanted = _merge(Kept(store), name, model, output, format, dtype)
    report = adapter_merge.merge(wanted, adapter_merge.TEXT if text is None else _read_text(text))
    if as_json:
        print_json(report)
        return
    print_pairs(
        [
            ("written", f"{output} ({report['format']}, {report['dtype']})"),
            ("compared on", f"{report['num_tokens']} tokens"),
            ("KL from the adapter", f"{report['kl_merged']:.2e}"),
            ("  of the base alone", f"{report['kl_base']:.2e}"),
            ("same likeliest token", f"{report['top1_merged']:.1%}"),
            ("  of the base alone", f"{report['top1_base']:.1%}"),
        ]
    )


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="BASE:NAME, or NAME.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A new folder for peft, a new file for gguf.")
    ],
    format: Annotated[str, typer.Option(help="peft, or gguf: for llama.cpp.")] = "peft",
    dtype: Annotated[str | None, typer.Option(help="Of a gguf: f32 (the default) or f16.")] = None,
    model: Annotated[
        str | None, typer.Option(help="For gguf: its base, if that is not known by its name.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of an adapter that is there.")
    ] = False,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Write an adapter's files for PEFT or llama.cpp."""
    from firefront.cli import adapter_export
    from firefront.cli.adapter_places import Kept
    from firefront.cli.output import print_json
    from firefront.core.errors import RequestError
    from firefront.weights import fetch

    if format not in ("peft", "gguf"):
        raise RequestError(f"--format {format}: must be peft or gguf", param="format")
    if dtype is not None and (format == "peft" or dtype not in adapter_export.DTYPES):
        raise RequestError(f"--dtype {dtype}: must be f32 or f16, and is for gguf", param="dtype")
    kept = Kept(store)
    found = kept.find(name)
    report = adapter_export.export(
        adapter_export.Export(
            name=found["model"],
            folder=kept.folder(found["sha256"]),
            base=fetch.find_here(model or found["base"]) if format == "gguf" else None,
            output=output.expanduser().absolute(),
            dtype=dtype or "f32",
            replaces=replace,
        )
    )
    if as_json:
        print_json(report)
        return
    print(f"wrote {report['output']} ({format})")
    for left_out in report["left_out"]:
        print(f"{left_out} has no place in it; export it as peft to have that too")


def _merge(
    kept: "Kept", name: str, model: str | None, output: Path, format: str | None, dtype: str
) -> "Merge":
    from firefront.cli.adapter_merge import Merge
    from firefront.core.errors import RequestError
    from firefront.weights import fetch

    found = kept.find(name)
    base = fetch.find_here(model or found["base"])
    if format is None:
        format = "gguf" if base.is_file() else "safetensors"
    if format not in ("safetensors", "gguf"):
        raise RequestError(f"--format {format}: must be safetensors or gguf", param="format")
    if dtype not in ("bf16", "f16", "f32"):
        raise RequestError(f"--dtype {dtype}: must be bf16, f16 or f32", param="dtype")
    return Merge(
        name=found["model"],
        base=base,
        adapter=kept.folder(found["sha256"]),
        output=output.expanduser().absolute(),
        format=format,
        dtype=dtype.upper(),  # type: ignore[arg-type]
    )


def _read_text(file: Path) -> str:
    from firefront.core.errors import RequestError

    try:
        return file.read_text("utf-8")[:MAX_TEXT_CHARS]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--text {file}: {error}", param="text") from None
