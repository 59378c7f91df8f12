"""How far the engine's logits are from float32, beside llama.cpp on the same tokens.

python bench/quality.py MODEL.gguf TEXT [--tokens 4096] [--llama-perplexity BIN] [--json FILE]

The oracle is transformers in float32 on the dequantised weights (it wants `accelerate` installed).
Chunks of 512 tokens, scored on their second halves as llama-perplexity does (and on all positions
for ours). llama.cpp is measured against a float32 GGUF of the same dequantised weights, in a
temporary folder. The first chunk is also compared with the numpy executor that rounds activations
and KV as the kernels do. That is no test of them in a deep model: one activation that falls to the
other side of a border by a last bit moves the next layer's, and after 30 layers the roundings have
nothing in common (tests/backends compares small models with an exact emulation instead).
"""

import argparse
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from chunk_logits import BUDGET, our_logits, pieces
from llama_perplexity import divergence

from firefront.backends.cpu.executor import load
from firefront.backends.numpy import NumpyExecutor
from firefront.core.deployment import Deployment
from firefront.core.step import BLOCK_SIZE
from firefront.models import trace_model
from firefront.text.tokenizer import Tokenizer, load_tokenizer
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.quant import dequantize
from firefront.weights.tensor import FLOATS

CHUNK = 512


def read_text(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def quantising_oracle(model: Path, tokens: np.ndarray) -> np.ndarray:
    """logits_TV of one chunk by the numpy executor, rounding as the kernels do."""
    with open_checkpoint(model) as checkpoint:
        oracle = NumpyExecutor(
            trace_model(checkpoint.config),
            lambda name: dequantize(checkpoint.tensors[name]),
            -(-len(tokens) // BLOCK_SIZE),
            activations="int8",
            is_quantised=lambda name: checkpoint.tensors[name].dtype not in FLOATS,
            kv_dtype="bf16",
        )
    return np.concatenate([oracle.forward(inputs) for inputs in pieces(tokens)])


def chunks_of(text: str, tokenizer: Tokenizer, num_tokens: int) -> np.ndarray:
    """Token ids of the text's start, whole chunks only: (chunks, CHUNK)."""
    tokens = np.array(tokenizer.encode(text[: num_tokens * 16]), np.int32)
    return tokens[: num_tokens // CHUNK * CHUNK].reshape(-1, CHUNK)


def open_oracle(model: Path) -> Callable[[np.ndarray], torch.Tensor]:
    """A function from a chunk to its logits_TV by transformers in float32."""
    oracle = transformers.AutoModelForCausalLM.from_pretrained(
        model.parent, gguf_file=model.name, dtype=torch.float32
    )

    def logits_TV(chunk: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return oracle(torch.tensor(chunk[None], dtype=torch.long)).logits[0]

    return logits_TV


class Score:
    """Sums of KL, top-1 agreement and negative log-likelihoods over positions."""

    def __init__(self) -> None:
        self.kl: list[float] = []
        self.same: list[bool] = []
        self.nll: list[float] = []
        self.oracle_nll: list[float] = []

    def add(self, want_TV: torch.Tensor, got_TV: torch.Tensor, targets: torch.Tensor) -> None:
        log_p = torch.log_softmax(want_TV.double(), dim=1)
        log_q = torch.log_softmax(got_TV.double(), dim=1)
        self.kl += (log_p.exp() * (log_p - log_q)).sum(dim=1).tolist()
        self.same += (log_p.argmax(dim=1) == log_q.argmax(dim=1)).tolist()
        self.nll += (-log_q.gather(1, targets[:, None])[:, 0]).tolist()
        self.oracle_nll += (-log_p.gather(1, targets[:, None])[:, 0]).tolist()

    def result(self) -> dict[str, float]:
        return {
            "positions": len(self.kl),
            "kl": float(np.mean(self.kl)),
            "kl_p99": float(np.quantile(self.kl, 0.99)),
            "top1": float(np.mean(self.same)),
            "perplexity": float(np.exp(np.mean(self.nll))),
            "oracle_perplexity": float(np.exp(np.mean(self.oracle_nll))),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--llama-perplexity", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    text = read_text(args.text)
    tokenizer = load_tokenizer(args.model)
    tokens = chunks_of(text, tokenizer, args.tokens)
    deployment = Deployment(model=str(args.model), context=CHUNK, token_budget=BUDGET, kv_blocks=64)
    executor = load(args.model, deployment)
    torch.set_num_threads(2)
    oracle = open_oracle(args.model)
    every, half, kernels = Score(), Score(), Score()
    want_TV = torch.tensor(quantising_oracle(args.model, tokens[0]))
    got_TV = torch.tensor(our_logits(executor, tokens[0]))
    kernels.add(want_TV[:-1], got_TV[:-1], torch.tensor(tokens[0][1:], dtype=torch.long))
    print(json.dumps({"quantising_oracle": kernels.result()}), flush=True)
    for chunk in tokens:
        want_TV = oracle(chunk)
        got_TV = torch.tensor(our_logits(executor, chunk))
        targets = torch.tensor(chunk[1:], dtype=torch.long)
        every.add(want_TV[:-1], got_TV[:-1], targets)
        middle = CHUNK // 2
        half.add(want_TV[middle:-1], got_TV[middle:-1], targets[middle:])
        print(json.dumps(every.result()), flush=True)
    result = {"model": args.model.name, "isa": executor.isa, "all": every.result()}
    result["second_halves"] = half.result()
    result["quantising_oracle"] = kernels.result()
    if args.llama_perplexity:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            result["llama_cpp"] = divergence(
                args.llama_perplexity, args.model, Path(file.name), len(tokens), []
            )
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
