"""One tensor of a checkpoint: where its bytes lie in a mapped file, and how to read them.

Owns the mapping of a file into memory and the table of weight formats.
Knows no file format. Invariant: a Tensor's `data` holds exactly the bytes its shape and dtype need.
"""

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import ModelFileError

# dtype: (elements in a block, bytes in a block). Rows are whole blocks. I8 has a scale a row, kept
# apart from the weights in files and here: Tensor.scales.
BLOCK: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "I8": (1, 1),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
}
FLOATS = frozenset({"F32", "F16", "BF16"})
MAX_DIMS = 4
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Bytes of one weight, row-major: `shape` is (rows, cols), or (n,) for norms and biases.

    `data` is a read-only view of uint8 into the mapped file, no copy; `offset` is its first byte in
    `file`. `row_order` is None, or int32[shape[0]]: true row i is stored row row_order[i]. `scales`
    is float32[shape[0]] for I8, one a stored row, and None for every other dtype. `shift` is added
    to every value once decoded; vectors only.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: NDArray[np.uint8]
    file: str
    offset: int
    row_order: NDArray[np.int32] | None = None
    scales: NDArray[np.float32] | None = None
    shift: float = 0.0

    @property
    def num_bytes(self) -> int:
        return int(self.data.size + (0 if self.scales is None else self.scales.nbytes))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; of one element where the tensor has one dimension."""
        return int(self.data.size) // self.shape[0]


def tensor_bytes(
    file: object, name: str, dtype: str, shape: tuple[int, ...], offset: int | None = None
) -> int:
    """Bytes that `shape` (row-major) takes in `dtype`; `offset` is where the file declares it.

    ModelFileError for no or too many dimensions, zero and negative ones, a size beyond int64,
    and rows that are not whole blocks.
    """

    def refuse(problem: str) -> ModelFileError:
        return ModelFileError(file, name, problem, offset=offset)

    if not 1 <= len(shape) <= MAX_DIMS:
        raise refuse(f"{len(shape)} dimensions, expected 1 to {MAX_DIMS}")
    num_elements = 1
    for dim in shape:
        if dim <= 0:
            raise refuse(f"dimension {dim} in shape {str(shape)[:60]}, must be positive")
        num_elements *= dim
        if num_elements > MAX_INT64:
            raise refuse(f"shape {str(shape)[:60]} has more than 2^63 elements")
    block_len, block_bytes = BLOCK[dtype]
    if shape[-1] % block_len:
        raise refuse(f"rows of {shape[-1]} elements, {dtype} needs a multiple of {block_len}")
    num_bytes = num_elements // block_len * block_bytes
    if num_bytes > MAX_INT64:
        raise refuse(f"shape {shape} takes more than 2^63 bytes")
    return num_bytes


class MappedFile:
    """A regular file mapped read-only; `data` is uint8[size].

    Raises ModelFileError if it cannot be opened, is empty or is not a regular file. The file must
    not be truncated while mapped: the kernel would end the process, and no check can prevent it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Non-blocking, so that a named pipe is refused instead of waited for.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:
            raise ModelFileError(path, "file", f"cannot be opened: {error}") from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(path, "file", "not a regular file")
            if status.st_size == 0:
                raise ModelFileError(path, "file", "empty")
            self.map = mmap.mmap(handle, status.st_size, access=mmap.ACCESS_READ)
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(path, "file", f"cannot be mapped: {error}") from None
        finally:
            os.close(handle)
        self.size = len(self.map)
        self.data: NDArray[np.uint8] = np.frombuffer(self.map, dtype=np.uint8)

    def close(self) -> None:
        """Drop the mapping. Views still held elsewhere keep it alive until they go."""
        self.data = np.empty(0, dtype=np.uint8)
        try:
            self.map.close()
        except BufferError:
            pass  # a tensor's view is still held by a caller
