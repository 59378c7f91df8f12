"""`firefront ls`: the models in the store, and the names that could be pulled."""

import typer


def ls(
    show_all: bool = typer.Option(False, "--all", "-a", help="also names that are not pulled yet"),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """List the models that are here."""
    from firefront.cli.output import human_bytes, print_json, print_table
    from firefront.weights.model_store import ModelStore

    store = ModelStore()
    models = store.models()
    have = {model.name for model in models}
    known = {name: e for name, e in store.catalog().items() if name not in have} if show_all else {}
    if as_json:
        print_json({"models": models, "available": known} if show_all else {"models": models})
        return
    rows = [
        (m.name, human_bytes(m.size), m.sha256[:12], m.license or "-", m.pulled[:10])
        for m in models
    ]
    for name, entry in sorted(known.items()):
        size = human_bytes(entry.size) if entry.size else "-"
        rows.append((name, size, (entry.sha256 or "-")[:12], entry.license or "-", "not pulled"))
    if rows:
        print_table(("NAME", "SIZE", "SHA256", "LICENCE", "PULLED"), rows)
    else:
        print("no models yet; start with: firefront pull starter")
