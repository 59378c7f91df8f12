"""An engine over the fake executor: collects Deltas, poisons free blocks, checks invariants."""

import msgspec

from firefront.core.clock import ManualClock
from firefront.core.messages import Delta, Logprob, Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from tests.engine.fake_executor import EOS, FakeExecutor

MAX_BURST = 1  # conftest.py runs each test a second time with bursts of several steps
GREEDY = SamplingParams(temperature=0.0, max_tokens=8)


class FakeDetokenizer:
    """Token t is the letter chr(97 + t % 26); the last one is held back, as half characters are."""

    def __init__(self, skip_special: bool) -> None:
        self._held = ""
        self._skip_special = skip_special

    def push(self, token_id: int) -> str:
        letter = "" if self._skip_special and token_id == EOS else FakeTokenizer.letter(token_id)
        text, self._held = self._held, letter
        return text

    def flush(self) -> str:
        text, self._held = self._held, ""
        return text


class FakeTokenizer:
    eos_ids = frozenset({EOS})

    @staticmethod
    def letter(token_id: int) -> str:
        return chr(97 + token_id % 26)

    def token_bytes(self, token_id: int) -> bytes:
        return self.letter(token_id).encode()

    def detokenizer(self, skip_special: bool = True, *, continues: bool) -> FakeDetokenizer:
        return FakeDetokenizer(skip_special)

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return [ord(c) - 97 for c in text]

    def text(self, tokens: list[int]) -> str:
        return "".join(self.letter(t) for t in tokens if t != EOS)


class Output(msgspec.Struct):
    """Everything one request produced."""

    token_ids: list[int] = []
    text: str = ""
    logprobs: list[Logprob] = []
    prompt_logprobs: list[Logprob] | None = None
    last: Delta | None = None

    def add(self, delta: Delta) -> None:
        assert self.last is None, "output after the end"
        self.token_ids += delta.token_ids
        self.text += delta.text
        self.logprobs += delta.logprobs or []
        if delta.prompt_logprobs is not None:
            assert self.prompt_logprobs is None
            self.prompt_logprobs = delta.prompt_logprobs
        if delta.finish is not None:
            self.last = delta

    @property
    def finish(self) -> str | None:
        return self.last and self.last.finish


class Harness:
    """An engine whose every step is checked."""

    def __init__(
        self,
        executor: FakeExecutor | None = None,
        *,
        tokenizer: object = None,
        grammars: object = None,
        adapters: object = None,
        **config: object,
    ) -> None:
        self.executor = executor or FakeExecutor()
        self.clock = ManualClock()
        settings = EngineConfig(**{"eos_ids": frozenset({EOS}), "max_burst": MAX_BURST, **config})
        self.engine = Engine(
            self.executor, tokenizer, settings, self.clock, grammars=grammars, adapters=adapters
        )
        self.outputs: dict[str, Output] = {}

    def submit(
        self, name: str, prompt: list[int], sampling: SamplingParams = GREEDY, **fields: object
    ) -> None:
        self.engine.submit(
            Submit(request_id=name, generation=1, token_ids=prompt, sampling=sampling, **fields)
        )
        self.outputs[name] = Output()

    def step(self) -> list[Delta]:
        deltas = self.engine.step()
        for delta in deltas:
            assert delta.generation == 1
            self.outputs[delta.request_id].add(delta)
        self.engine.check_invariants()
        for block in range(self.executor.num_blocks):
            if not self.engine._pool.is_readable(block):
                self.executor.poison(block)
        return deltas

    def run(self, max_steps: int = 2000) -> dict[str, Output]:
        steps = 0
        while self.engine.has_work:
            self.step()
            steps += 1
            assert steps < max_steps, "livelock"
        stats = self.engine.stats()
        assert stats.num_free_blocks == stats.num_blocks and not stats.num_running
        return self.outputs


def solo(prompt: list[int], sampling: SamplingParams = GREEDY, **kwargs: object) -> Output:
    """The request run alone, in one chunk, with room to spare and without a prefix cache."""
    harness = Harness(FakeExecutor(128, 1024), token_budget=1024, prefix_cache=False, **kwargs)
    harness.submit("solo", prompt, sampling)
    return harness.run()["solo"]
