"""`firefront show`: what a model is and what it needs, from its manifest and its header."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from firefront.weights.checkpoint import Checkpoint


def show(
    spec: str = typer.Argument(help="name or spec of a model that is here"),
    verify: bool = typer.Option(False, "--verify", help="read all of it and compare SHA-256"),
    draft: str | None = typer.Option(None, help="memory with this draft model beside it"),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """Show a model: sizes, digest, licence, and the memory it needs. Nothing is fetched."""
    from firefront.cli.output import human_bytes, print_json, print_pairs

    facts = describe(spec, verify=verify, draft=draft)
    if as_json:
        print_json(facts)
        return
    config, memory = facts["config"], facts["memory"]
    heads = f"{config['num_q_heads']} query, {config['num_kv_heads']} kv, dim {config['head_dim']}"
    print_pairs(
        [
            ("name", facts["name"]),
            ("spec", _short(facts["spec"])),
            ("path", facts["path"]),
            ("sha256", (facts["sha256"] or "-") + (" (verified)" if verify else "")),
            ("licence", facts["license"] or "-"),
            ("pulled", facts["pulled"] or "-"),
            ("family", config["family"]),
            ("layers", f"{config['num_layers']} of hidden dim {config['hidden_dim']}"),
            ("heads", heads),
            ("vocabulary", str(config["vocab_size"])),
            ("context", f"{config['max_model_len']} tokens"),
            ("parameters", f"{facts['num_parameters'] / 1e6:.1f} million"),
            ("schemes", ", ".join(f"{k} {human_bytes(v)}" for k, v in facts["schemes"].items())),
            *_memory_lines(memory),
        ]
    )


def _memory_lines(memory: dict[str, Any]) -> list[tuple[str, str]]:
    from firefront.cli.output import human_bytes

    size = {name: human_bytes(value) for name, value in memory.items() if "bytes" in name}
    context = f"{memory['context']} tokens" if memory["fits"] else "none"
    tokens = f"{memory['num_blocks'] * memory['block_size']} tokens of all sequences"
    draft = [("draft model", f"{memory['draft']}, in these sums")] if memory["draft"] else []
    lines = [
        *draft,
        ("weights", f"{size['weight_bytes']} in memory"),
        ("KV per token", f"{size['kv_bytes_per_token']} ({memory['kv_dtype']})"),
        ("KV, full context", f"{size['kv_bytes_full_context']} a sequence"),
        ("KV cache", f"{size['kv_bytes']}, {tokens}"),
        ("buffers", size["buffer_bytes"]),
        ("process", f"{size['process_bytes']} (estimate)"),
        ("sum", size["total_bytes"]),
        ("free memory", size["free_bytes"]),
        ("context that fits", context),
    ]
    return [*lines, ("", memory["problem"])] if memory["problem"] else lines


def describe(spec: str, *, verify: bool = False, draft: str | None = None) -> dict[str, Any]:
    """The facts behind `show`. Raises NotFoundError when the model is not here."""
    import msgspec

    from firefront.core.errors import NotFoundError
    from firefront.weights import fetch
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.model_store import ModelStore
    from firefront.weights.sources import LocalSource

    store = ModelStore()
    model = fetch.find(spec, store)
    if isinstance(model.source, LocalSource):
        manifest, path = fetch.pull(spec, store=store), fetch.resolve(spec, store=store)
    else:
        stored = store.get(model.name)
        if stored is None:
            raise NotFoundError(f"{spec}: is not here yet; run: firefront pull {spec}")
        manifest, path = stored, store.path(stored)
        if verify:
            store.verify(stored)
    with open_checkpoint(path) as checkpoint:
        config = checkpoint.config
        num_parameters, schemes = checkpoint.num_parameters, checkpoint.scheme_bytes
        memory = _memory(checkpoint, spec, draft)
    return {
        "name": manifest.name,
        "spec": manifest.spec,
        "path": str(path),
        "sha256": manifest.sha256 or None,
        "size": manifest.size,
        "license": manifest.license,
        "pulled": manifest.pulled or None,
        "files": msgspec.to_builtins(manifest.files),
        "config": msgspec.to_builtins(config),
        "num_parameters": num_parameters,
        "schemes": schemes,
        "memory": memory,
    }


def _memory(checkpoint: "Checkpoint", spec: str, draft: str | None) -> dict[str, Any]:
    """What serving it would take here and now, with the defaults and FIREFRONT_* settings."""
    from dataclasses import asdict

    from firefront.core.deployment import load_deployment
    from firefront.core.step import BLOCK_SIZE
    from firefront.engine.load import needed_memory

    deployment = load_deployment(None, model=spec, draft=draft)
    need = needed_memory(checkpoint, deployment)
    facts = asdict(need)
    return {
        **facts,
        "context": facts.pop("max_model_len"),
        "total_bytes": need.total_bytes,
        "kv_bytes_full_context": need.kv_bytes_per_token * checkpoint.config.max_model_len,
        "kv_dtype": deployment.kv_dtype,
        "draft": deployment.draft or None,
        "block_size": BLOCK_SIZE,
        "fits": need.fits,
    }


def _short(spec: str) -> str:
    return spec if len(spec) <= 90 else spec[:87] + "..."
