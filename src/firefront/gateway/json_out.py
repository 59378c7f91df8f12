"""JSON out, in one place: compact UTF-8; a NaN or infinity becomes null (JSON has neither)."""

from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def dumps(value: Any) -> bytes:
    return _encoder.encode(value)
