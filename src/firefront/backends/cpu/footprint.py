"""The memory that a deployment takes, known from sizes alone before any matrix is read.

Owns how much of it goes to the KV cache, and so which context fits. Loading, `firefront show` and
`firefront doctor` say the same numbers because they come from here. Knows nothing of files.
"""

from dataclasses import dataclass

from firefront.core.deployment import Deployment
from firefront.core.step import BLOCK_SIZE

MEMORY_SHARE = 0.5  # of what is free beside the weights, for the KV cache unless told otherwise
MAX_SHARE = 0.9  # of it, if one sequence of full context needs that much
MAX_KV_BYTES = 2 << 30
ADAPTER_SHARE = 0.5  # of what is free after all that, for adapters
MAX_CONTEXT = 32768
MIN_CONTEXT = 1024  # less than this is no service; only asked for it is given
MAX_SEQUENCES = 16  # of full context that the KV cache is made for
# Python with all that is imported, and the tokenizer's tables; measured by bench/start.py.
PROCESS_BYTES = 48 << 20
PROCESS_BYTES_PER_TOKEN = 512


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes, and the context that they allow. `problem` says why it does not fit or why the context
    is shorter than it could be; `fits` is False if the model cannot be loaded at all."""

    weight_bytes: int
    kv_bytes: int
    buffer_bytes: int
    process_bytes: int
    free_bytes: int
    kv_bytes_per_token: int
    num_blocks: int
    max_model_len: int
    problem: str

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.kv_bytes + self.buffer_bytes + self.process_bytes

    @property
    def adapter_bytes(self) -> int:
        """Most that adapters may take; they come when they are needed, and count beside this."""
        return max(0, int((self.free_bytes - self.total_bytes) * ADAPTER_SHARE))

    @property
    def fits(self) -> bool:
        return self.num_blocks > 0

    def __str__(self) -> str:
        return (
            f"weights {_mib(self.weight_bytes)} + KV cache {_mib(self.kv_bytes)} + buffers "
            f"{_mib(self.buffer_bytes)} + process {_mib(self.process_bytes)} = "
            f"{_mib(self.total_bytes)}, {_mib(self.free_bytes)} free"
        )


def fit(
    deployment: Deployment,
    *,
    model_len: int,
    vocab_size: int,
    weight_bytes: int,
    buffer_bytes: int,
    block_bytes: int,
    free_bytes: int,
) -> Footprint:
    """Choose the KV blocks: the deployment's, or those of a few sequences of full context."""
    process_bytes = PROCESS_BYTES + PROCESS_BYTES_PER_TOKEN * vocab_size
    fixed = weight_bytes + buffer_bytes + process_bytes
    left = free_bytes - fixed
    wanted_len = min(deployment.context or MAX_CONTEXT, model_len)
    least = deployment.kv_blocks or _blocks(min(MIN_CONTEXT, wanted_len))
    num_blocks, problem = 0, ""
    if left < least * block_bytes:
        fix = "lower --kv-blocks" if deployment.kv_blocks else "use a smaller model or free memory"
        problem = (
            f"model: weights take {_mib(weight_bytes)}, buffers {_mib(buffer_bytes)}, the process "
            f"{_mib(process_bytes)} and its KV cache at least {_mib(least * block_bytes)} (of "
            f"{least * BLOCK_SIZE} tokens), and {_mib(free_bytes)} are free; {fix}"
        )
    elif deployment.kv_blocks:
        num_blocks = deployment.kv_blocks
    else:
        one = _blocks(wanted_len)
        wanted = one * min(deployment.max_num_seqs, MAX_SEQUENCES)
        room = min(int(left * MEMORY_SHARE), MAX_KV_BYTES) // block_bytes
        num_blocks = min(wanted, max(room, min(one, int(left * MAX_SHARE) // block_bytes), least))
    max_model_len = min(wanted_len, num_blocks * BLOCK_SIZE)
    if num_blocks and max_model_len < wanted_len:
        why = (
            f"there are {num_blocks} KV blocks"
            if deployment.kv_blocks
            else f"{_mib(free_bytes)} are free, weights, buffers and process take {_mib(fixed)}, "
            f"and each token {block_bytes // BLOCK_SIZE / 1024:.1f} KiB of KV cache"
        )
        problem = f"context is {max_model_len} tokens instead of {wanted_len}: {why}"
    elif num_blocks and wanted_len < deployment.context:
        problem = f"context is {model_len} tokens instead of {deployment.context}: the model's own"
    return Footprint(
        weight_bytes=weight_bytes,
        kv_bytes=num_blocks * block_bytes,
        buffer_bytes=buffer_bytes,
        process_bytes=process_bytes,
        free_bytes=free_bytes,
        kv_bytes_per_token=block_bytes // BLOCK_SIZE,
        num_blocks=num_blocks,
        max_model_len=max_model_len,
        problem=problem,
    )


def _blocks(num_tokens: int) -> int:
    return -(-num_tokens // BLOCK_SIZE)


def _mib(num_bytes: int) -> str:
    return f"{-(-num_bytes >> 20)} MiB"
