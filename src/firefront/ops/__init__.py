"""The vocabulary: every op a plan may hold, each declared in one place.

OPS maps an op's kind to its OpSpec: signature, output shapes, cost and numpy reference.
A budget of about 32 ops, none with a model's name.
"""

from firefront.ops.attention import ATTENTION
from firefront.ops.gather import EMBED, SELECT_ROWS
from firefront.ops.linear import GATE_UP, LINEAR, LM_HEAD
from firefront.ops.qkv import QKV, rope_inv_freq
from firefront.ops.rmsnorm import RMSNORM
from firefront.ops.spec import Cost, CostQuery, OpSpec, Shape, Sizes

OPS: dict[str, OpSpec] = {
    spec.kind: spec
    for spec in (EMBED, RMSNORM, QKV, ATTENTION, LINEAR, GATE_UP, SELECT_ROWS, LM_HEAD)
}

__all__ = ["OPS", "Cost", "CostQuery", "OpSpec", "Shape", "Sizes", "rope_inv_freq"]
