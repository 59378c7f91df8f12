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
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.backends.numpy import NumpyExecutor
from firefront.core.deployment import Deployment
from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs
from firefront.models import trace_model
from firefront.text.tokenizer import load_tokenizer
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.quant import dequantize
from firefront.weights.tensor import FLOATS

CHUNK = 512
BUDGET = 256


def read_text(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def pieces(tokens: np.ndarray) -> Iterator[StepInputs]:
    """The steps of one chunk from position 0, BUDGET tokens each."""
    table = np.arange(-(-len(tokens) // BLOCK_SIZE), dtype=np.int32)[None]
    for start in range(0, len(tokens), BUDGET):
        piece = tokens[start : start + BUDGET].astype(np.int32)
        positions = np.arange(start, start + len(piece), dtype=np.int32)
        yield StepInputs(
            token_ids=piece,
            positions=positions,
            slot_mapping=positions.copy(),
            cu_seqlens=np.array([0, len(piece)], np.int32),
            seq_lens=np.array([start + len(piece)], np.int32),
            block_tables=table,
            logit_rows=np.arange(len(piece), dtype=np.int32),
        )


def our_logits(executor: CpuExecutor, tokens: np.ndarray) -> np.ndarray:
    """logits_TV of one chunk."""
    logits_TV = np.empty((len(tokens), executor.vocab_size), np.float32)
    for inputs in pieces(tokens):
        rows = np.zeros(len(inputs.token_ids), SAMPLER_ROW)
        for name, value in {"num_logprobs": -1, "target": -1, "mask_row": -1}.items():
            rows[name] = value
        rows["repetition_penalty"] = 1
        none = np.zeros(0, np.int32)
        executor.step(
            inputs,
            SamplerRows(rows, none, none, np.zeros(0, np.float32), np.zeros((0, 1), np.uint32)),
            logits=logits_TV[inputs.positions[0] : inputs.positions[-1] + 1],
        )
    return logits_TV


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


def write_f32(source: Path, target: Path) -> None:
    """The same GGUF with every tensor dequantised to float32."""
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, *rest = field.types
        writer.add_key_value(name, field.contents(), kind, rest[-1] if rest else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape(tuple(int(n) for n in tensor.shape[::-1])))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp(binary: Path, model: Path, text: Path, chunks: int) -> dict[str, float]:
    """llama.cpp's own KL against its float32 run, and its perplexities."""
    with tempfile.TemporaryDirectory() as folder:
        f32, base = Path(folder) / "f32.gguf", Path(folder) / "base.dat"
        write_f32(model, f32)
        common = [str(binary), "-f", str(text), "-t", "2"]
        common += ["-c", str(CHUNK), "--chunks", str(chunks)]
        save = [*common, "-m", str(f32), "--kl-divergence-base", str(base)]
        subprocess.run([*save, "-ctk", "f32", "-ctv", "f32"], check=True, capture_output=True)
        compare = [*common, "-m", str(model), "--kl-divergence-base", str(base), "--kl-divergence"]
        run = subprocess.run(compare, check=True, capture_output=True, text=True)
    output = run.stdout + run.stderr
    patterns = {
        "kl": r"Mean\s+KLD:\s+([-0-9.e]+)",
        "top1": r"Same top p:\s+([0-9.]+)",
        "perplexity": r"Mean PPL\(Q\)\s+:\s+([0-9.]+)",
        "oracle_perplexity": r"Mean PPL\(base\)\s+:\s+([0-9.]+)",
    }
    found = {name: re.search(pattern, output) for name, pattern in patterns.items()}
    return {name: float(match[1]) for name, match in found.items() if match}


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
    tokens = np.array(tokenizer.encode(text[: args.tokens * 16]), np.int32)
    chunks = args.tokens // CHUNK
    tokens = tokens[: chunks * CHUNK].reshape(chunks, CHUNK)
    deployment = Deployment(model=str(args.model), context=CHUNK, token_budget=BUDGET, kv_blocks=64)
    executor = load(args.model, deployment)
    torch.set_num_threads(2)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(
        args.model.parent, gguf_file=args.model.name, dtype=torch.float32
    )
    every, half, kernels = Score(), Score(), Score()
    want_TV = torch.tensor(quantising_oracle(args.model, tokens[0]))
    got_TV = torch.tensor(our_logits(executor, tokens[0]))
    kernels.add(want_TV[:-1], got_TV[:-1], torch.tensor(tokens[0][1:], dtype=torch.long))
    print(json.dumps({"quantising_oracle": kernels.result()}), flush=True)
    for chunk in tokens:
        with torch.no_grad():
            want_TV = oracle(torch.tensor(chunk[None], dtype=torch.long)).logits[0]
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
            result["llama_cpp"] = llama_cpp(
                args.llama_perplexity, args.model, Path(file.name), chunks
            )
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
