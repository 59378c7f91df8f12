"""The numpy backend: the oracle in tests. Not for serving.

`NumpyExecutor` runs steps, `logits` a whole text; `compare` names the first op that differs.
"""

from firefront.backends.numpy.executor import NumpyExecutor
from firefront.backends.numpy.oracle import Difference, compare, logits, packed_inputs
from firefront.backends.numpy.sampler import sample, uniform

__all__ = [
    "Difference",
    "NumpyExecutor",
    "compare",
    "logits",
    "packed_inputs",
    "sample",
    "uniform",
]
