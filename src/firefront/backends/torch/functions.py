"""The differentiable pieces that ops are made of, with the backward written out.

Base weights are frozen, so no gradient is computed for them; what backward needs is kept once, and
every product is one call of a matrix library. Values between pieces are of the weights' dtype, the
residual stream and all sums of squares are float32.
Legend: T tokens, R logit rows, D input dim, N output dim, F ffn, V vocabulary, r adapter rank.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

TILE_ROWS = 128  # of logits that exist at once


class Part(NamedTuple):
    """Where one module's adapter lies: its rows of a fused weight, its columns of x A^T, scale."""

    rows: slice
    ranks: slice
    scale: float


class Project(Function):
    """y_TN = x_TD W_ND^T + bias_N + residual_TN, and for each part of the adapter
    y[:, rows] += scale * (x A^T)[:, ranks] B^T."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        parts: tuple[Part, ...],
        a: Tensor | None,
        *bs: Tensor,
    ) -> Tensor:
        if residual is not None and residual.dtype == weight.dtype:
            y = torch.addmm(residual, x, weight.t())
        else:
            y = x @ weight.t()
        if bias is not None:
            y += bias
        low_Tr = None
        if a is not None:
            low_Tr = x @ a.to(x.dtype).t()
            for part, b in zip(parts, bs, strict=True):
                low = low_Tr[:, part.ranks]
                y[:, part.rows].addmm_(low, b.to(x.dtype).t(), alpha=part.scale)
        ctx.save_for_backward(x if a is not None else None, low_Tr, a, *bs)
        ctx.weight, ctx.parts = weight, parts
        if residual is not None and residual.dtype != weight.dtype:
            return residual + y
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, low_Tr, a, *bs = ctx.saved_tensors
        weight, parts = ctx.weight, ctx.parts
        dresidual = dy if ctx.needs_input_grad[3] else None
        dy = dy.to(weight.dtype)
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        if a is None:
            return dx, None, None, dresidual, None, None
        dlow_Tr, dbs = torch.empty_like(low_Tr), []
        for part, b in zip(parts, bs, strict=True):
            dpart = dy[:, part.rows]
            dlow = dlow_Tr[:, part.ranks]
            dlow.addmm_(dpart, b.to(dy.dtype), beta=0, alpha=part.scale)
            dbs.append((dpart.t() @ low_Tr[:, part.ranks]).to(b.dtype).mul_(part.scale))
        if dx is not None:
            dx.addmm_(dlow_Tr, a.to(dy.dtype))
        return dx, None, None, dresidual, None, (dlow_Tr.t() @ x).to(a.dtype), *dbs


class Normalise(Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32, then of `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = torch.rsqrt(size.square_().div_(x.shape[-1]).add_(eps))
        ctx.save_for_backward(x, inverse)
        ctx.weight = weight
        return (x * inverse).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, inverse = ctx.saved_tensors
        dnormed = dy * ctx.weight
        along = (dnormed * x).sum(dim=-1, keepdim=True)
        dx = dnormed.mul_(inverse)
        dx.addcmul_(x.to(dx.dtype), along.mul_(inverse**3).div_(x.shape[-1]), value=-1)
        return dx.to(x.dtype), None, None, None


class Gate(Function):
    """act(gate_TF) * up_TF of a value (T, 2F) whose columns are gate's, then up's."""

    @staticmethod
    def forward(ctx: Any, both: Tensor, activation: str) -> Tensor:
        gate, up = both.chunk(2, dim=1)
        acted = _ACT[activation](gate)
        ctx.save_for_backward(both, acted)
        ctx.activation = activation
        return acted * up

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        both, acted = ctx.saved_tensors
        gate, up = both.chunk(2, dim=1)
        dboth = torch.empty_like(both)
        dgate, dup = dboth.chunk(2, dim=1)
        torch.mul(dy, acted, out=dup)
        dgate.copy_(_DACT[ctx.activation](dy * up, gate))
        return dboth, None


class Attend(Function):
    """softmax(scale * q k^T + mask) v, x (n, K, M, H) of q (n, K, M, H), k and v (n, K, l, H) and
    the mask (n, 1, M, l) in float32. Scores are float32 whatever the dtype; their softmax is kept.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        scores = (q.float() * scale) @ k.float().transpose(2, 3)
        seen = torch.softmax(scores.add_(mask), dim=-1).to(v.dtype)
        x = seen @ v
        ctx.save_for_backward(q, k, v, seen, x)
        ctx.scale = scale
        return x

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Any, ...]:
        q, k, v, seen, x = ctx.saved_tensors
        dv = seen.transpose(2, 3) @ dx
        dseen = dx @ v.transpose(2, 3)
        # Not torch's own derivative of softmax: its float32 bits depend on the number of threads.
        dscores = dseen.sub_((dx * x).sum(dim=-1, keepdim=True)).mul_(seen)
        dq, dk = dscores @ k, dscores.transpose(2, 3) @ q
        return dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv, None, None


_ACT: dict[str, Any] = {
    "silu": torch.nn.functional.silu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}
_DACT: dict[str, Any] = {
    "silu": torch.ops.aten.silu_backward,
    "gelu_tanh": lambda dy, x: torch.ops.aten.gelu_backward(dy, x, approximate="tanh"),
}


class Rotate(Function):
    """Rotary embedding of pairs (i, i + H/2) of x (T, heads, H) by cos and sin (T, 1, H/2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.angles = cos, sin
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        cos, sin = ctx.angles
        return _rotated(dy, cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    y = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, cos.dtype))
    one, other = y.chunk(2, dim=-1)
    torch.mul(first, cos, out=one)
    torch.mul(second, cos, out=other)
    one.addcmul_(second, sin, value=-1)
    other.addcmul_(first, sin)
    return y.to(x.dtype)


class TokenLogprobs(Function):
    """Natural log-probabilities of `targets` (R) under the logits x_RD W_VD^T, bounded by the soft
    cap if there is one. No more than TILE_ROWS rows of logits exist at once.

    A row's result depends on that row alone, so its derivative is computed beside it, while the
    probabilities are at hand: W[target] - sum_v p_v W[v], through the cap.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, softcap: float | None
    ) -> Tensor:
        logprobs_R = torch.empty(len(x), dtype=torch.float32)
        derivative_RD = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for start in range(0, len(x), TILE_ROWS):
            rows = slice(start, start + TILE_ROWS)
            target_r1 = targets[rows, None]
            logits_rV = (x[rows] @ weight.t()).float()
            if softcap is not None:
                logits_rV = logits_rV.div_(softcap).tanh_()
                slope_rV = 1 - logits_rV.square()
                logits_rV.mul_(softcap)
            scores_rV = torch.log_softmax(logits_rV, dim=1)
            logprobs_R[rows] = scores_rV.gather(1, target_r1)[:, 0]
            if derivative_RD is None:
                continue
            dlogits_rV = scores_rV.exp_().neg_()
            dlogits_rV.scatter_add_(1, target_r1, torch.ones(target_r1.shape))
            if softcap is not None:
                dlogits_rV.mul_(slope_rV)
            derivative_RD[rows] = dlogits_rV.to(weight.dtype) @ weight
        ctx.save_for_backward(derivative_RD)
        return logprobs_R

    @staticmethod
    def backward(ctx: Any, dlogprobs_R: Tensor) -> tuple[Any, ...]:
        (derivative_RD,) = ctx.saved_tensors
        return (derivative_RD * dlogprobs_R[:, None]).to(derivative_RD.dtype), None, None, None
