"""Declarations of ops: names, shapes, sizes and costs."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firefront.ops import OPS, Cost, Sizes


@pytest.mark.parametrize("kind", OPS)
def test_reference_takes_exactly_the_signature(kind: str) -> None:
    spec = OPS[kind]
    parameters = inspect.signature(spec.reference).parameters
    attrs = [name.rstrip("?") for name in spec.attrs]
    declared = (*spec.input_names, *spec.weight_roles, *attrs)
    assert set(parameters) == {"ctx", *declared}
    optional = {n for n, p in parameters.items() if p.default is None}
    names = (*spec.inputs, *spec.weights, *spec.attrs)
    assert optional == {n[:-1] for n in names if n.endswith("?")}


def test_budget_and_names() -> None:
    assert len(OPS) <= 32
    assert set(OPS) == {
        "embed", "rmsnorm", "qkv", "attention", "linear", "gate_up", "select_rows", "lm_head",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "weights", "attrs", "message"),
    [
        (("x",), (), {"eps": 1.0}, "weight 'weight' is missing"),
        ((), ("weight",), {"eps": 1.0}, "input 'x' is missing"),
        (("x",), ("weight", "gamma"), {"eps": 1.0}, "unknown weight 'gamma'"),
        (("x", "y"), ("weight",), {"eps": 1.0}, "unknown input 'y'"),
        (("x",), ("weight",), {}, "attribute 'eps' is missing"),
        (("x",), ("weight",), {"eps": 1.0, "axis": 0}, "unknown attribute 'axis'"),
        (("x",), ("weight",), {"eps": 1}, "eps=1 must be float"),
    ],
)
def test_check_names_what_is_wrong(inputs, weights, attrs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OPS["rmsnorm"].check(inputs, weights, attrs)


def qkv_shapes(**changes):
    inputs = {"x": ("T", 64)}
    weights = {"weight": (128, 64), "bias": (128,), "q_norm": (16,)}
    attrs = {"num_q_heads": 4, "num_kv_heads": 2, "head_dim": 16, "inv_freq": (1.0,) * 8}
    for name, value in changes.items():
        next(d for d in (inputs, weights, attrs) if name in d)[name] = value
    return OPS["qkv"].shapes(inputs, weights, attrs)


def test_qkv_shapes() -> None:
    assert qkv_shapes() == (("T", 4, 16), ("T", 2, 16), ("T", 2, 16))


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": (127, 64)},
        {"weight": (128, 65)},
        {"bias": (64,)},
        {"q_norm": (64,)},
        {"inv_freq": (1.0,)},
        {"num_kv_heads": 3},
    ],
)
def test_qkv_refuses(wrong) -> None:
    with pytest.raises(ValueError, match="qkv:"):
        qkv_shapes(**wrong)


@pytest.mark.parametrize(
    ("kind", "inputs", "weights", "attrs"),
    [
        ("linear", {"x": ("T", 8)}, {"weight": (4, 9)}, {}),
        ("linear", {"x": ("T", 8)}, {"weight": (4, 8), "bias": (8,)}, {}),
        ("linear", {"x": ("T", 8), "residual": ("T", 8)}, {"weight": (4, 8)}, {}),
        ("linear", {"x": ("T", 8), "residual": ("R", 4)}, {"weight": (4, 8)}, {}),
        ("gate_up", {"x": ("T", 8)}, {"weight": (5, 8)}, {"activation": "silu"}),
        ("gate_up", {"x": ("T", 8)}, {"weight": (4, 8)}, {"activation": "relu"}),
        ("rmsnorm", {"x": ("T", 8)}, {"weight": (4,)}, {"eps": 1.0}),
        ("rmsnorm", {"x": ("T", 8), "residual": ("T", 4)}, {"weight": (8,)}, {"eps": 1.0}),
        ("lm_head", {"x": ("R", 8)}, {"weight": (4, 8)}, {"softcap": 0.0}),
        ("embed", {"token_ids": ("T",)}, {"table": (8, 4)}, {"scale": -1.0}),
        ("embed", {"token_ids": ("T",)}, {"table": (8,)}, {}),
        ("select_rows", {"x": ("R", 8)}, {}, {}),
    ],
)
def test_shapes_that_do_not_fit(kind, inputs, weights, attrs) -> None:
    with pytest.raises(ValueError, match=kind):
        OPS[kind].shapes(inputs, weights, attrs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cache": "disk"},
        {"window": 0},
        {"softcap": -1.0},
        {"causal": False, "cache": "paged"},
        {"causal": False, "window": 4},
    ],
)
def test_attention_refuses(wrong) -> None:
    attrs = {"layer": 0, "scale": 1.0, "window": None, "causal": True, "cache": None} | wrong
    shapes = {"q": ("T", 4, 16), "k": ("T", 2, 16), "v": ("T", 2, 16)}
    with pytest.raises(ValueError, match="attention"):
        OPS["attention"].shapes(shapes, {}, attrs)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 20)), min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(1, 12)),
)
def test_attended_pairs_equal_a_count(spans, window) -> None:
    sizes = Sizes(tuple(n for n, _ in spans), tuple(n + c for n, c in spans), 1)
    pairs, keys = 0, 0
    for new, cached in spans:
        seen = [
            [j for j in range(i + 1) if window is None or i - j < window]
            for i in range(cached, cached + new)
        ]
        pairs += sum(map(len, seen))
        keys += len(set().union(*seen))
    assert sizes.attended(window) == pairs
    assert sizes.keys_read(window) == keys


def test_sizes() -> None:
    sizes = Sizes.prefill(10, context_len=6)
    assert [sizes.of(s) for s in "TSR"] == [10, 1, 1]
    assert sizes.attended(None, causal=False) == 160
    assert Sizes.decode(3, 7).query_lens == (1, 1, 1)
    with pytest.raises(ValueError, match="query_len"):
        Sizes((3,), (2,), 1)
    with pytest.raises(ValueError, match="query_len"):
        Sizes((0,), (2,), 1)


def test_cost_adds() -> None:
    both = Cost(1, 2.0, 3, 4.0) + Cost(10, 20.0, 30, 40.0)
    assert both == Cost(11, 22.0, 33, 44.0) and both.num_bytes == 99
