"""A tokenizer of bytes and an engine that needs no model: its words follow from the prompt alone.

Words in a prompt make it misbehave: HANG (a step that does not end), DIE (the process ends in a
step), FOREIGN (a delta for someone else), REFUSE, WRONG, BOOM (submit raises), MIDWAY (an error
after three tokens), BIG (20 kB a token), STOP (end of text after five), SLOWLY (0.2 s a token).
SAY and a JSON string make it say just that, three bytes a step, and then stop.
"""

import json
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firefront.core.deployment import Deployment
from firefront.core.errors import ModelFileError, OverloadedError, RequestError
from firefront.core.messages import Delta, Logprob, Stats, Submit, Timings, Usage
from firefront.engine.worker import Loaded
from firefront.gateway.registering import AdapterFacts
from firefront.text.answer_format import answer_format

BOS, EOS, VOCAB_SIZE = 256, 257, 300
MAX_MODEL_LEN = 2048
SAY_BYTES = 3


class FakeTokenizer:
    """A token is a byte; 256 begins, 257 ends, spelled <bos> and <eos>."""

    vocab_size = VOCAB_SIZE
    template = "fake"
    special_ids = frozenset({BOS, EOS})
    eos_ids = frozenset({EOS})
    answer_format = answer_format("{{ messages }}<think></think>", ())

    def encode(
        self, text: str, add_special: bool = True, *, parse_special: bool = False
    ) -> list[int]:
        if not parse_special:
            return list(text.encode())
        pieces = text.encode().split(b"<eos>")
        return [token for piece in pieces for token in (EOS, *piece)][1:]

    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Any = None,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        **kwargs: Any,
    ) -> list[int]:
        text = "".join(f"{m['role']}: {m['content']}\n" for m in messages)
        text = self.template.removeprefix("fake") + text
        return [BOS, *text.removesuffix("\n" if continues_last else "").encode()]

    def encode_infill(self, prefix: str, suffix: str) -> list[int]:
        return [*prefix.encode(), BOS, *suffix.encode()]

    def chat_text(self, *args: Any, **kwargs: Any) -> str:
        return self.decode(self.encode_chat(*args, **kwargs))

    def info(self) -> dict[str, Any]:
        info = {"eos_token": "<eos>", "chat_template": self.template}
        return {"tokenizer_class": "PreTrainedTokenizerFast", **info}

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        spelled = {} if skip_special else {BOS: b"<bos>", EOS: b"<eos>"}
        data = b"".join(bytes([i]) if i < 256 else spelled.get(i, b"") for i in ids)
        return data.decode("utf-8", "replace")

    def with_template(self, text: str, source: str) -> "FakeTokenizer":
        other = FakeTokenizer()
        other.template = text
        return other

    def token_bytes(self, token_id: int, /) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""


class _Running:
    def __init__(self, submit: Submit) -> None:
        self.submit = submit
        self.prompt = bytes(i for i in submit.token_ids if i < 256)
        if submit.adapter is not None:  # another model: it says something else
            Path(submit.adapter.path, "adapter_config.json").stat()
            self.prompt += submit.adapter.sha256.encode()
        self.output: list[int] = []
        self.text = ""
        self.unsaid = _told_to_say(self.prompt)

    def next_token(self) -> int:
        seed = self.submit.sampling.seed or 0
        key = b"%d %d " % (seed, len(self.output)) + self.prompt
        return ord("a") + zlib.crc32(key) % 26


class FakeEngine:
    """Every running sequence gets a token a step."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._running: dict[str, _Running] = {}
        self._log = os.environ.get("FAKE_LOG")
        self._step_s = float(os.environ.get("FAKE_STEP_S", "0.002"))
        self._num_steps = self._num_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._running)

    def submit(self, submit: Submit) -> None:
        running = _Running(submit)
        salt, priority = submit.account_salt.hex(), submit.priority
        self._note(f"submit {submit.request_id} {len(submit.token_ids)} {salt} {priority}")
        if (adapter := submit.adapter) is not None:
            pinned = "pinned" if adapter.is_pinned else "free"
            self._note(f"adapter {adapter.name} {adapter.sha256} {pinned}")
        if b"REFUSE" in running.prompt:
            raise OverloadedError("the fake queue is full")
        if b"WRONG" in running.prompt:
            raise RequestError("the fake engine does not like it", param="prompt")
        if b"BOOM" in running.prompt:
            raise ZeroDivisionError
        self._running[submit.request_id] = running

    def abort(self, request_id: str, generation: int) -> None:
        running = self._running.get(request_id)
        if running is not None and running.submit.generation == generation:
            del self._running[request_id]
            self._note(f"abort {request_id}")

    def set_knobs(self, knobs: Any) -> None:
        self._note(f"knobs {knobs}")

    def unload_adapter(self, sha256: str) -> None:
        self._note(f"unload {sha256}")

    def watch(self, new_work: object) -> None: ...

    def stats(self) -> Stats:
        return Stats(
            num_running=len(self._running),
            num_waiting=0,
            num_free_blocks=100 - len(self._running),
            num_blocks=1000,
            prefix_queries=10,
            prefix_hits=5,
            num_preemptions=0,
            num_adapters=2,
            adapter_bytes=4096,
            num_adapter_loads=3,
            prompt_tokens=0,
            generation_tokens=self._num_tokens,
            step_s=0.0,
            num_steps=self._num_steps,
            drafted_tokens=8,
            accepted_tokens=6,
        )

    def step(self) -> list[Delta]:
        prompts = b" ".join(running.prompt for running in self._running.values())
        if b"HANG" in prompts and not os.path.exists(os.environ.get("FAKE_CURED", "")):
            time.sleep(1000)
        if b"DIE" in prompts and not os.path.exists(os.environ.get("FAKE_CURED", "")):
            os._exit(9)
        time.sleep(0.2 if b"SLOWLY" in prompts else self._step_s)
        self._num_steps += 1
        deltas = []
        for running in list(self._running.values()):
            deltas += self._advance(running)
        return deltas

    def _advance(self, running: _Running) -> list[Delta]:
        submit, sampling = running.submit, running.submit.sampling
        first = not running.output
        deltas = []
        if b"FOREIGN" in running.prompt and first:
            deltas.append(self._delta(running, "FOREIGN TEXT", generation=submit.generation + 1))
            deltas.append(self._delta(running, "FOREIGN TEXT", request_id="nobody"))
        if b"MIDWAY" in running.prompt and len(running.output) == 3:
            return [*deltas, self._finish(running, "error", "", error="the fake engine failed")]
        prompt_logprobs = self._prompt_logprobs(running) if first else None
        if sampling.max_tokens == 0:
            return [*deltas, self._finish(running, "length", "", prompt_logprobs=prompt_logprobs)]
        if running.unsaid is not None:
            return [*deltas, self._say(running)]
        ended = b"STOP" in running.prompt and not sampling.ignore_eos and len(running.output) == 5
        if ended:
            return [*deltas, self._finish(running, "stop", "")]
        token = running.next_token()
        running.output.append(token)
        self._num_tokens += 1
        text = chr(token) * (20_000 if b"BIG" in running.prompt else 1)
        running.text += text
        extra: dict[str, Any] = {"token_ids": [token], "prompt_logprobs": prompt_logprobs}
        if sampling.logprobs is not None:
            extra["logprobs"] = [_logprob(token, sampling.logprobs)]
        stop = next((s for s in sampling.stop if running.text.endswith(s)), None)
        if stop is not None:
            return [*deltas, self._finish(running, "stop", "", stop_reason=stop, **extra)]
        if len(running.output) == sampling.max_tokens:
            return [*deltas, self._finish(running, "length", text, **extra)]
        return [*deltas, self._delta(running, text, **extra)]

    def _say(self, running: _Running) -> Delta:
        """The next piece of what the prompt told it to say."""
        limit = running.submit.sampling.max_tokens
        room = SAY_BYTES if limit is None else min(SAY_BYTES, limit - len(running.output))
        piece, running.unsaid = running.unsaid[:room], running.unsaid[room:]
        running.output += piece
        text = piece.decode("utf-8", "replace")
        if not running.unsaid:
            return self._finish(running, "stop", text, token_ids=list(piece))
        if len(running.output) == limit:
            return self._finish(running, "length", text, token_ids=list(piece))
        return self._delta(running, text, token_ids=list(piece))

    def _delta(self, running: _Running, text: str, **extra: Any) -> Delta:
        submit = running.submit
        usage = Usage(
            num_prompt=len(submit.token_ids),
            num_output=len(running.output),
            num_cached=2,
            num_foretold=sum(
                a == b for a, b in zip(submit.prediction, running.output, strict=False)
            ),
        )
        fields = {
            "request_id": submit.request_id,
            "generation": submit.generation,
            "token_ids": [],
            "usage": usage,
            **extra,
        }
        return Delta(text=text, **fields)

    def _finish(self, running: _Running, why: str, text: str, **extra: Any) -> Delta:
        del self._running[running.submit.request_id]
        self._note(f"finish {running.submit.request_id} {why}")
        timings = Timings(queue_s=0.25, first_token_s=0.5, total_s=1.5)
        return self._delta(running, text, finish=why, timings=timings, **extra)

    def _prompt_logprobs(self, running: _Running) -> list[Logprob] | None:
        num_top = running.submit.sampling.prompt_logprobs
        if num_top is None:
            return None
        entries = [_logprob(token, num_top) for token in running.submit.token_ids]
        first = running.submit.token_ids[0]
        return [Logprob(first, None, FakeTokenizer().token_bytes(first)), *entries[1:]]

    def _note(self, line: str) -> None:
        if self._log:
            with open(self._log, "a") as log:
                log.write(line + "\n")


def _told_to_say(prompt: bytes) -> bytes | None:
    start = prompt.rfind(b'SAY"')
    if start < 0:
        return None
    said, _ = json.JSONDecoder().raw_decode(prompt[start + 3 :].decode())
    return said.encode()


def _logprob(token: int, num_top: int) -> Logprob:
    raw = FakeTokenizer().token_bytes(token)
    top = tuple((ord("a") + i, -1.0 - i, bytes([ord("a") + i])) for i in range(num_top))
    return Logprob(token, -0.5, raw, top)


def read_adapter(base_path: str, folder: Path) -> AdapterFacts:
    """What the server is given instead of a reader of PEFT's files: any JSON is an adapter, whose
    "base" must be this one."""
    config = json.loads((folder / "adapter_config.json").read_bytes())
    if config.get("base", base_path) != base_path:
        raise ModelFileError(folder / "adapter_config.json", "base", f"does not fit {base_path}")
    return AdapterFacts(config.get("r", 8), ["q_proj", "v_proj"])


def make_engine(deployment: Deployment) -> Loaded:
    """What `worker.main` is given instead of a real engine."""
    time.sleep(float(os.environ.get("FAKE_LOAD_S", "0")))
    if "broken" in deployment.model:
        raise RequestError(f"{deployment.model}: the fake file is damaged")
    if "crash" in deployment.model:
        os._exit(7)
    return Loaded(
        engine=FakeEngine(deployment),
        model=deployment.model,
        max_model_len=deployment.context or MAX_MODEL_LEN,
        num_blocks=1000,
        block_size=16,
    )
