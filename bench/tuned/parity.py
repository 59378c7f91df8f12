"""KL of the engine to the trainer: `python -m bench.tuned.parity MODEL ADAPTER ROWS int8|f32`."""

import sys
from pathlib import Path

import msgspec


def main(model: str, adapter: str, rows: str, activations: str) -> None:
    from firefront.core.deployment import load_deployment
    from firefront.text.tokenizer import load_tokenizer
    from firefront.tuning.jobs.canary import check_parity
    from firefront.tuning.jobs.check import read_examples
    from firefront.weights import fetch

    path = str(fetch.resolve(model))
    read = read_examples(Path(rows), load_tokenizer(path), "supervised", 2048)
    examples = [example for row in read for example in row]
    base = load_deployment(None, model=path, activations=activations)
    print(msgspec.json.encode(check_parity(base, Path(adapter), examples)).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
