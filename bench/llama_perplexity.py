"""How far llama.cpp is from its own float32 run, by its llama-perplexity.

python bench/llama_perplexity.py BINARY MODEL.gguf TEXT --chunks N [FLAGS of the compared run]

Prints JSON. The base is a float32 GGUF of the same dequantised weights in a temporary folder, its
KV cache float16; chunks of 512 tokens are scored on their second halves.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

CHUNK = 512


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


def divergence(
    binary: Path, model: Path, text: Path, chunks: int, flags: list[str]
) -> dict[str, float]:
    """llama.cpp's own KL against its float32 run, and its perplexities; `top1` in percent."""
    with tempfile.TemporaryDirectory() as folder:
        f32, base = Path(folder) / "f32.gguf", Path(folder) / "base.dat"
        write_f32(model, f32)
        common = [str(binary), "-f", str(text), "-t", "2"]
        common += ["-c", str(CHUNK), "-b", str(CHUNK), "--chunks", str(chunks)]
        save = [*common, "-m", str(f32), "--kl-divergence-base", str(base)]
        run([*save, "-fa", "off"])
        compare = [*common, "-m", str(model), "--kl-divergence-base", str(base), "--kl-divergence"]
        output = run([*compare, *flags])
    patterns = {
        "kl": r"Mean\s+KLD:\s+([-0-9.e]+)",
        "top1": r"Same top p:\s+([0-9.]+)",
        "perplexity": r"Mean PPL\(Q\)\s+:\s+([0-9.]+)",
        "oracle_perplexity": r"Mean PPL\(base\)\s+:\s+([0-9.]+)",
    }
    found = {name: re.search(pattern, output) for name, pattern in patterns.items()}
    return {name: float(match[1]) for name, match in found.items() if match}


def reason(errors: str) -> str:
    """What it says it failed at, else its last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"ASSERT|error|failed", line)]
    return (told or lines or [""])[-1]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        sys.exit(f"{Path(command[0]).name}: exit {done.returncode}: {reason(done.stderr)}")
    return done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--chunks", type=int, required=True)
    args, flags = parser.parse_known_args()
    print(json.dumps(divergence(args.binary, args.model, args.text, args.chunks, flags)))


if __name__ == "__main__":
    main()
