"""firefront as a child: `options` are fields of its deployment, everything else is its default."""

from typing import Any

from workload import converse

from firefront.core.deployment import load_deployment


def build(task: dict[str, Any]) -> dict[str, Any]:
    settings = {"model": f"file:{task['model']}", "threads": task["threads"]} | task["options"]
    if task["use"] == "logits":
        return {"logits": logits(settings, task["model"]), "versions": {}}
    from firefront.engine.bench import Runner
    from firefront.engine.load import build_engine

    engine, tokenizer = build_engine(load_deployment(None, {}, **settings))
    seconds = Runner(engine, tokenizer.vocab_size).seconds
    return {"seconds": seconds, "keeps_prefixes": True, "versions": {}}


def logits(settings: dict[str, Any], model: str) -> Any:
    from pathlib import Path

    import numpy as np
    from chunk_logits import BUDGET, our_logits

    from firefront.backends.cpu.executor import load

    settings = settings | {"context": 512, "token_budget": BUDGET, "kv_blocks": 64}
    executor = load(Path(model), load_deployment(None, {}, **settings))
    return lambda chunk: our_logits(executor, np.array(chunk, np.int32))


if __name__ == "__main__":
    converse(build)
