"""`firefront rm`: delete a pulled model."""

import typer


def rm(
    specs: list[str] = typer.Argument(help="names or specs of pulled models", metavar="SPEC..."),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """Delete pulled models and what interrupted pulls left. Your own files are never touched."""
    from firefront.cli.output import print_json
    from firefront.weights import fetch

    removed = []
    for spec in specs:
        removed.append(fetch.remove(spec))
        if not as_json:
            print(f"removed {removed[-1]}")
    if as_json:
        print_json({"removed": removed})
