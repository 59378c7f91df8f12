"""`firefront show`: what a model is and what it needs, from its manifest and its header alone."""

import math
from typing import Any

import typer


def show(
    spec: str = typer.Argument(help="name or spec of a model that is here"),
    verify: bool = typer.Option(False, "--verify", help="read all of it and compare SHA-256"),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """Show a model: sizes, digest, licence, and the memory it needs. Nothing is fetched."""
    from firefront.cli.output import human_bytes, print_json, print_pairs

    facts = describe(spec, verify=verify)
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
            ("weights", human_bytes(memory["weight_bytes"])),
            ("KV per token", f"{human_bytes(memory['kv_bytes_per_token'])} (bf16)"),
            ("KV, full context", f"{human_bytes(memory['kv_bytes_full_context'])} a sequence"),
        ]
    )


def describe(spec: str, *, verify: bool = False) -> dict[str, Any]:
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
    schemes: dict[str, int] = {}
    num_parameters = weight_bytes = 0
    with open_checkpoint(path) as checkpoint:
        config = checkpoint.config
        for tensor in checkpoint.tensors.values():
            schemes[tensor.dtype] = schemes.get(tensor.dtype, 0) + tensor.num_bytes
            weight_bytes += tensor.num_bytes
            num_parameters += math.prod(tensor.shape)
    kv_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 2  # k and v, bf16
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
        "schemes": dict(sorted(schemes.items(), key=lambda item: -item[1])),
        "memory": {
            "weight_bytes": weight_bytes,
            "kv_bytes_per_token": kv_bytes,
            "kv_bytes_full_context": kv_bytes * config.max_model_len,
        },
    }


def _short(spec: str) -> str:
    return spec if len(spec) <= 90 else spec[:87] + "..."
