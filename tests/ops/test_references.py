"""Each op's numpy reference against torch. T tokens, D hidden, N/K heads, H head dim, F ffn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from firefront.backends.numpy import packed_inputs
from firefront.core.model_config import RopeConfig
from firefront.ops import OPS, rope_inv_freq
from firefront.ops.context import Context, KvCache, Lora, quantise, round_bf16

T, D, F_DIM, V = 13, 48, 80, 37
LENGTHS = (8, 5)
BARE = Context()


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def step():
    return packed_inputs(*[np.arange(length) for length in LENGTHS])


def run(kind: str, ctx: Context = BARE, **arguments):
    return OPS[kind].reference(ctx, **arguments)


def close(got: np.ndarray, want: torch.Tensor, atol: float = 2e-5) -> None:
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want.numpy(), rtol=2e-5, atol=atol)


def lora(rows: int, cols: int, **segment) -> Lora:
    return Lora(random(4, cols, seed=5), random(rows, 4, seed=6), 0.5, **segment)


def test_embed() -> None:
    ids, table = np.array([3, 0, 3, 36], np.int32), random(V, D)
    close(
        run("embed", token_ids=ids, table=table),
        F.embedding(torch.tensor(ids), torch.tensor(table)),
    )


def test_embed_scaled() -> None:
    ids, table = np.array([3, 0, 3, 36], np.int32), random(V, D)
    want = F.embedding(torch.tensor(ids), torch.tensor(table)) * 5.5
    close(run("embed", token_ids=ids, table=table, scale=5.5), want)


def test_select_rows() -> None:
    inputs = step()
    rows = np.array([12, 0, 7], np.int32)
    inputs = type(inputs)(
        **{n: getattr(inputs, n) for n in inputs.__slots__} | {"logit_rows": rows}
    )
    x_TD = random(T, D)
    close(run("select_rows", Context(step=inputs), x=x_TD), torch.tensor(x_TD)[rows])


def test_rmsnorm() -> None:
    x_TD, weight = 3 * random(T, D), random(D)
    want = F.rms_norm(torch.tensor(x_TD), (D,), torch.tensor(weight), eps=1e-3)
    close(run("rmsnorm", x=x_TD, weight=weight, eps=1e-3), want)
    zeros = run("rmsnorm", x=np.zeros((1, D), np.float32), weight=weight, eps=1e-6)
    assert (zeros == 0).all()


def test_rmsnorm_adds_the_residual_last() -> None:
    x_TD, weight, residual = 3 * random(T, D), random(D), random(T, D, seed=4)
    want = F.rms_norm(torch.tensor(x_TD), (D,), torch.tensor(weight), eps=1e-3)
    got = run("rmsnorm", x=x_TD, weight=weight, eps=1e-3, residual=residual)
    close(got, want + torch.tensor(residual))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_linear(bias: bool, residual: bool) -> None:
    x_TD, weight_ND = random(T, D), random(F_DIM, D)
    bias_N = random(F_DIM) if bias else None
    residual_TN = random(T, F_DIM) if residual else None
    want = F.linear(
        torch.tensor(x_TD), torch.tensor(weight_ND), torch.tensor(bias_N) if bias else None
    )
    if residual_TN is not None:
        want = want + torch.tensor(residual_TN)
    close(run("linear", x=x_TD, weight=weight_ND, bias=bias_N, residual=residual_TN), want)


def test_gate_up() -> None:
    x_TD, weight = random(T, D), random(2 * F_DIM, D)
    gate, up = (
        torch.tensor(x_TD) @ torch.tensor(weight).T[:, :F_DIM],
        torch.tensor(x_TD) @ (torch.tensor(weight).T[:, F_DIM:]),
    )
    close(run("gate_up", x=x_TD, weight=weight, activation="silu"), F.silu(gate) * up, 2e-4)


def test_gate_up_with_gelu() -> None:
    x_TD, weight = random(T, D), random(2 * F_DIM, D)
    gate, up = (torch.tensor(x_TD) @ torch.tensor(weight).T).chunk(2, dim=1)
    want = F.gelu(gate, approximate="tanh") * up
    close(run("gate_up", x=x_TD, weight=weight, activation="gelu_tanh"), want, 2e-4)
    assert (F.gelu(gate) * up - want).abs().max() > 1e-3  # the exact one would be seen


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gate_up_of_huge_inputs_is_finite(activation: str) -> None:
    x = np.array([[-1e30], [1e30], [-200.0]], np.float32)
    with np.errstate(over="ignore"):
        got = run("gate_up", x=x, weight=np.array([[1], [0]], np.float32), activation=activation)
    assert np.isfinite(got).all()


def test_lm_head() -> None:
    x_RD, weight_VD = random(3, D), random(V, D)
    close(run("lm_head", x=x_RD, weight=weight_VD), torch.tensor(x_RD) @ torch.tensor(weight_VD).T)


def test_lm_head_with_a_soft_cap() -> None:
    x_RD, weight_VD = random(3, D), random(V, D)
    logits_RV = torch.tensor(x_RD) @ torch.tensor(weight_VD).T
    got = run("lm_head", x=x_RD, weight=weight_VD, softcap=4.0)
    close(got, 4 * torch.tanh(logits_RV / 4))
    assert np.abs(got).max() < 4 < logits_RV.abs().max()


def torch_rope(x_TNH: torch.Tensor, positions: np.ndarray, inv_freq) -> torch.Tensor:
    """By complex numbers: another way than the reference's."""
    first, second = x_TNH.double().chunk(2, dim=2)
    angles = torch.tensor(positions).double()[:, None] * torch.tensor(inv_freq).double()
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat([turned.real, turned.imag], dim=2).float()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("delta", [False, True])
def test_qkv(bias: bool, norms: bool, delta: bool) -> None:
    n, k, h = 6, 2, 16
    rows = (n + 2 * k) * h
    x_TD, weight, bias_N = random(T, D), random(rows, D), random(rows) if bias else None
    inv_freq = rope_inv_freq(RopeConfig(theta=100.0), h)
    q_norm, k_norm = (random(h, seed=1), random(h, seed=2)) if norms else (None, None)
    adapter = lora(rows, D)
    inputs = step()
    got = run(
        "qkv", Context(step=inputs, delta=[adapter] if delta else None),
        x=x_TD, weight=weight, bias=bias_N, q_norm=q_norm, k_norm=k_norm, num_q_heads=n,
        num_kv_heads=k, head_dim=h, norm_eps=1e-5, inv_freq=inv_freq,
    )  # fmt: skip
    y = F.linear(torch.tensor(x_TD), torch.tensor(weight), torch.tensor(bias_N) if bias else None)
    if delta:  # before norm and rope
        low = torch.tensor(x_TD) @ torch.tensor(adapter.a_rK).T
        y = y + 0.5 * low @ torch.tensor(adapter.b_Nr).T
    q, keys, v = y.view(T, n + 2 * k, h).split([n, k, k], dim=1)
    if norms:
        q = F.rms_norm(q, (h,), torch.tensor(q_norm), eps=1e-5)
        keys = F.rms_norm(keys, (h,), torch.tensor(k_norm), eps=1e-5)
    want = (
        torch_rope(q, inputs.positions, inv_freq),
        torch_rope(keys, inputs.positions, inv_freq),
        v,
    )
    for array, tensor in zip(got, want, strict=True):
        close(array, tensor, 3e-4)


def test_inv_freq_factors_divide() -> None:
    plain = rope_inv_freq(RopeConfig(theta=10000.0), 8)
    np.testing.assert_allclose(plain, [1.0, 0.1, 0.01, 0.001], rtol=1e-6)
    scaled = rope_inv_freq(RopeConfig(theta=10000.0, factors=(1.0, 2.0, 4.0, 8.0)), 8)
    np.testing.assert_allclose(scaled, [1.0, 0.05, 0.0025, 0.000125], rtol=1e-6)
    with pytest.raises(ValueError, match="3 factors for head_dim 8, expected 4"):
        rope_inv_freq(RopeConfig(factors=(1.0, 1.0, 1.0)), 8)


@pytest.mark.parametrize("cache", [None, "paged"])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_attention(cache: str | None, window: int | None) -> None:
    n, k, h = 6, 2, 16
    q, keys, v = random(T, n, h), random(T, k, h, seed=1), random(T, k, h, seed=2)
    slots = np.zeros((1, 2 * 16, k, h), np.float32)
    ctx = Context(step=step(), cache=KvCache(slots, slots.copy()))
    got = run(
        "attention", ctx, q=q, k=keys, v=v, layer=0, scale=0.3, window=window, causal=True,
        cache=cache,
    )  # fmt: skip
    start = 0
    for length in LENGTHS:
        part = slice(start, start + length)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = (distance >= 0) & (distance < (window or length))
        heads = (torch.tensor(a[part]).transpose(0, 1) for a in (q, keys, v))
        want = F.scaled_dot_product_attention(*heads, attn_mask=seen, scale=0.3, enable_gqa=True)
        close(got[part], want.transpose(0, 1).reshape(length, n * h))
        start += length


def test_attention_with_a_soft_cap() -> None:
    n, k, h = 6, 2, 16
    q, keys, v = random(T, n, h), random(T, k, h, seed=1), random(T, k, h, seed=2)
    got = run(
        "attention", Context(step=step()), q=q, k=keys, v=v, layer=0, scale=1.5, window=3,
        causal=True, cache=None, softcap=2.0,
    )  # fmt: skip
    q_NTH, k_NTH, v_NTH = (
        torch.tensor(a[:8]).repeat_interleave(n // a.shape[1], 1).transpose(0, 1)
        for a in (q, keys, v)
    )
    scores = 2 * torch.tanh(q_NTH @ k_NTH.transpose(1, 2) * 1.5 / 2)
    distance = torch.arange(8)[:, None] - torch.arange(8)
    seen = (distance >= 0) & (distance < 3)
    want = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v_NTH
    close(got[:8], want.transpose(0, 1).reshape(8, n * h))


def test_attention_of_an_encoder_sees_all() -> None:
    n, h = 2, 16
    q, keys, v = random(T, n, h), random(T, n, h, seed=1), random(T, n, h, seed=2)
    got = run(
        "attention", Context(step=step()), q=q, k=keys, v=v, layer=0, scale=0.3, window=None,
        causal=False, cache=None,
    )  # fmt: skip
    heads = (torch.tensor(a[:8]).transpose(0, 1) for a in (q, keys, v))
    want = F.scaled_dot_product_attention(*heads, scale=0.3)
    close(got[:8], want.transpose(0, 1).reshape(8, n * h))


# The adapter delta: after bias, before activation and residual; by segment and by rows.


def test_delta_comes_before_the_residual_and_by_segment() -> None:
    x, weight, residual = random(T, D), random(F_DIM, D), random(T, F_DIM)
    adapters = [
        lora(F_DIM, D, tokens=(0, 4)),
        Lora(random(2, D, seed=8), random(16, 2, seed=9), 2.0, tokens=(4, 9), rows=(16, 32)),
    ]
    plain = run("linear", x=x, weight=weight, residual=residual)
    got = run("linear", Context(delta=adapters), x=x, weight=weight, residual=residual)
    want = plain.copy()
    for a in adapters:
        tokens, rows = slice(*a.tokens), slice(*(a.rows or (0, F_DIM)))
        want[tokens, rows] += a.scale * (x[tokens] @ a.a_rK.T @ a.b_Nr.T)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(got[9:], plain[9:])
    assert np.abs(got[:9] - plain[:9]).max() > 1


@pytest.mark.parametrize("kind", ["gate_up", "lm_head"])
def test_delta_equals_a_merged_weight(kind: str) -> None:
    x, weight, adapter = random(T, D), random(2 * F_DIM, D), lora(2 * F_DIM, D)
    attrs = {"activation": "silu"} if kind == "gate_up" else {}
    merged = weight + np.float32(adapter.scale) * adapter.b_Nr @ adapter.a_rK
    want = run(kind, x=x, weight=merged, **attrs)
    by_hook = run(kind, Context(delta=[adapter]), x=x, weight=weight, **attrs)
    by_call = run(
        kind, Context(delta=lambda x: x @ (merged - weight).T), x=x, weight=weight, **attrs
    )
    np.testing.assert_allclose(by_hook, want, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(by_call, want, rtol=1e-4, atol=1e-3)


# Rounding as the C++ kernels do.


def test_quantise_by_hand() -> None:
    x = np.zeros((2, 64), np.float32)
    x[0, :4] = [127.0, -63.5, 0.5, 1.5]  # scale 1: ties go to even
    x[1, 32:35] = [-0.254, 0.001, 0.002]
    got = quantise(x)
    np.testing.assert_array_equal(got[0, :4], [127.0, -64.0, 0.0, 2.0])
    np.testing.assert_allclose(got[1, 32:35], [-0.254, 0.0, 0.002], rtol=1e-6)
    assert (got[0, 4:] == 0).all() and (got[1, :32] == 0).all()


def test_quantise_is_within_half_a_step_and_stable() -> None:
    x = random(7, 80)
    got = quantise(x)
    step_size = np.abs(np.pad(x, ((0, 0), (0, 16))).reshape(7, 3, 32)).max(axis=2) / 127
    step_size = np.repeat(step_size, 32, axis=1)[:, :80]
    assert (np.abs(got - x) <= step_size * 0.5001).all()
    np.testing.assert_allclose(quantise(got), got, rtol=1e-6, atol=1e-7)


def test_only_quantised_rows_see_rounded_activations() -> None:
    x, weight = random(T, D), random(F_DIM, D)
    rows = np.arange(F_DIM) < 30
    got = run("linear", Context(quantised_N=rows), x=x, weight=weight)
    np.testing.assert_array_equal(got[:, 30:], (x @ weight.T)[:, 30:])
    np.testing.assert_array_equal(got[:, :30], (quantise(x) @ weight.T)[:, :30])


def test_round_bf16_equals_torch() -> None:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.4e38, 1.00390625, 1.01171875]
    x = np.concatenate([random(1000) * 1e3, np.array(special, np.float32)])
    want = torch.tensor(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(round_bf16(x), want)
