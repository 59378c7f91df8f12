"""What `make bench-peers` measures when nothing else is said: models, engines, figures."""

import msgspec

from bench.peers.engine import Engine
from bench.peers.llama_cpp import IK_LLAMA_CPP, LLAMA_CPP
from bench.peers.onnx_engine import OnnxRuntime
from bench.peers.openvino_engine import OpenVino
from bench.peers.transformers_engine import Transformers
from bench.peers.vllm_engine import Vllm

PEERS: tuple[Engine, ...] = (
    LLAMA_CPP, IK_LLAMA_CPP, OpenVino(), OnnxRuntime(), Vllm(), Transformers(),
)  # fmt: skip


class Lot(msgspec.Struct, frozen=True):
    """`ours`: further arms of ours, NAME:KEY=VALUE; `divergence` is measured if there is text."""

    peers: tuple[str, ...]
    figures: tuple[str, ...]
    ours: tuple[str, ...] = ()
    divergence: bool = False


EVERY_PEER = tuple(peer.name for peer in PEERS)
SMALL = Lot(EVERY_PEER, ("prefill_512", "decode_1", "decode_16"), divergence=True)
LOTS = {
    "starter": Lot(
        EVERY_PEER,
        ("prefill_512", "decode_1", "decode_16", "decode_32", "cached_1000"),
        ("turbo:prefill=turbo",),
        divergence=True,
    ),
    "qwen-coder-0.5b": Lot(
        ("llama.cpp", "ik_llama.cpp"), ("prefill_512", "decode_1", "decode_16")
    ),
    "qwen-coder-1.5b": Lot(("llama.cpp",), ("prefill_512", "decode_1", "decode_16")),
}


def lot_of(model: str) -> Lot:
    """Models that are not in the list meet every peer."""
    return LOTS.get(model, SMALL)
