"""Messages between gateway and replica: a versioned tagged union over a unix socket.

A frame is a 4-byte little-endian length and msgpack, at most MAX_FRAME_BYTES long; never pickle.
Every reply echoes `request_id` and `generation`, so that no answer can reach a foreign stream.
"""

import msgspec

from firefront.core.sampling import SamplingParams

PROTOCOL_VERSION = 1
MAX_FRAME_BYTES = 64 << 20
TOKEN_VARIABLE = "FIREFRONT_BOOT_TOKEN"  # by which a replica gets the secret of its Hello
EXIT_BAD_DEPLOYMENT = 3  # the deployment or the model is at fault: a restart cannot help


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Root of the union; the tag is the class name."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's files are, for people who choose one."""

    num_parameters: int
    weight_bytes: int  # as stored
    format: str  # of most of them: "GGUF Q4_1", "safetensors BF16"


class Hello(Message, frozen=True):
    """First frame of a replica: what it serves. `version` must equal PROTOCOL_VERSION."""

    version: int
    token: str  # the per-boot secret the gateway handed the replica
    model: str
    max_model_len: int
    num_blocks: int
    block_size: int
    pid: int
    facts: ModelFacts | None = None


class AdapterRef(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter of a request. `path` is the folder with its files, `sha256` their digest: the
    same name with another digest is another adapter. `is_pinned`: once loaded it stays loaded."""

    name: str
    sha256: str
    path: str
    is_pinned: bool = False


class Submit(Message, frozen=True):
    """One sequence to run (n > 1 is n Submits). `deadline_s` is a duration from receipt.
    `prediction` is what the client expects to be said: it makes the same tokens come sooner."""

    request_id: str
    generation: int
    token_ids: list[int]
    sampling: SamplingParams
    account_salt: bytes = b""
    adapter: AdapterRef | None = None
    grammar: str | None = None
    priority: int = 0
    deadline_s: float | None = None
    prediction: list[int] = []


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """One position: the token, its log-probability (None for the first prompt token), its text's
    bytes, and the likeliest alternatives as (token_id, logprob, bytes)."""

    token_id: int
    logprob: float | None
    token_bytes: bytes
    top: tuple[tuple[int, float, bytes], ...] = ()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts so far. `num_cached` prompt tokens were taken from the prefix cache;
    `num_foretold` output tokens, counted at the end, were the next ones of the prediction."""

    num_prompt: int
    num_output: int
    num_cached: int = 0
    num_foretold: int = 0


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds since the replica received the Submit; None where it has not happened."""

    queue_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None


class Delta(Message, frozen=True):
    """New output of one request. The last one carries `finish`: stop, length, abort or error."""

    request_id: str
    generation: int
    token_ids: list[int]
    text: str
    logprobs: list[Logprob] | None = None
    prompt_logprobs: list[Logprob] | None = None
    finish: str | None = None
    stop_reason: str | int | None = None  # the stop string or stop token id that ended it
    error: str | None = None  # with finish == "error"
    error_code: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None


class Abort(Message, frozen=True):
    request_id: str
    generation: int


class UnloadAdapter(Message, frozen=True):
    """Nobody needs this adapter any more, even if it was pinned: it goes when nothing runs on it.
    """

    sha256: str


class SetKnobs(Message, frozen=True):
    """Hot deployment fields to change: token_budget, max_num_seqs."""

    token_budget: int | None = None
    max_num_seqs: int | None = None


class Stats(Message, frozen=True):
    """Sent by the replica about once a second and after each change of state."""

    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    prefix_queries: int
    prefix_hits: int
    num_preemptions: int
    prompt_tokens: int
    generation_tokens: int
    step_s: float
    num_steps: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    executor_s: float = 0.0  # of step_s, outside Python
    num_adapters: int = 0  # in memory now
    adapter_bytes: int = 0
    num_adapter_loads: int = 0


class Heartbeat(Message, frozen=True):
    """Sent by the replica each second; `step_age_s` is the age of the running step, 0 when idle."""

    step_age_s: float


class Drain(Message, frozen=True):
    """Finish what runs, refuse what is new."""


class Error(Message, frozen=True):
    """A frame that could not be honoured and belongs to no request."""

    message: str


AnyMessage = (
    Hello | Submit | Delta | Abort | UnloadAdapter | SetKnobs | Stats | Heartbeat | Drain | Error
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """Return the frame, length prefix included; ValueError if it is longer than allowed."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"message of {len(body)} bytes, at most {MAX_FRAME_BYTES}")
    return len(body).to_bytes(4, "little") + body


def decode(body: bytes) -> AnyMessage:
    """Decode a frame's body; msgspec.ValidationError if it is not one of ours."""
    message: AnyMessage = _decoder.decode(body)
    return message
