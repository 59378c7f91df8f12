"""One API request while it runs: its sequences on the replica, their deltas, its tokens counted.

Knows nothing of JSON shapes. Invariant: once `close` was called no sequence of the request is out;
it is called on every way out, so a client that leaves frees its blocks.
"""

import functools
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from firefront.core.errors import FirefrontError, RequestError
from firefront.core.messages import Delta, Submit, Timings, Usage
from firefront.core.sampling import MAX_SEED
from firefront.fleet.mailbox import Mailbox, Restarted
from firefront.gateway.render import Prompt
from firefront.gateway.state import Gateway, ServedModel
from firefront.gateway.task import ANYONE, Service
from firefront.text.answer import AnswerReader, CallOpened, Event, Reasoning


@dataclass(frozen=True, slots=True)
class Growth:
    """What a delta adds to one choice, understood. `finish`: stop, length or tool_calls."""

    index: int
    events: list[Event]
    delta: Delta
    finish: str | None


class Generation:
    """Prompts times n sequences; sequence `p * n + i` is choice i of prompt p."""

    def __init__(
        self,
        gateway: Gateway,
        model: ServedModel,
        prompts: list[Prompt],
        *,
        started_s: float,
        streamed: bool,
        service: Service = ANYONE,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.n = prompts[0].sampling.n
        self.num_sequences = len(prompts) * self.n
        self.mailbox = Mailbox(
            self.num_sequences,
            gateway.clock,
            replayable=not streamed,
            stall_limit_s=gateway.settings.stall_limit_s,
        )
        self._gateway = gateway
        self._id = secrets.token_hex(16)
        self._started_s = started_s
        self._last_s: list[float | None] = [None] * self.num_sequences
        self._num_output = [0] * self.num_sequences
        self._usage: list[Usage | None] = [None] * self.num_sequences
        self._num_reasoning = [0] * self.num_sequences
        self._readers: list[AnswerReader] = []
        self._has_called: list[bool] = []
        self._is_cut = False  # a choice, at its limit of tokens
        self._service = service
        self.timings: list[Timings | None] = [None] * self.num_sequences
        self.first_token_s: float | None = None  # since the request came in

    def start(self) -> None:
        """Hand every sequence to the replica; all or none."""
        limit = self.model.replica.deployment.max_waiting
        if self.num_sequences > limit:
            raise RequestError(
                f"{self.num_sequences} sequences in one request, at most {limit}: send fewer "
                "prompts or a smaller n",
                param="n",
            )
        self._gateway.enter(self)
        try:
            for index in range(self.num_sequences):
                self.model.replica.submit(self._submit(index), self.mailbox, index)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Abort what is still out. May be called twice."""
        self._gateway.leave(self)
        if not self.mailbox.done:
            for index in range(self.num_sequences):
                self.model.replica.abort(self._sequence_id(index))

    def fail(self, error: FirefrontError) -> None:
        self.mailbox.fail(error)

    async def growths(self) -> AsyncIterator[list[Growth | int]]:
        """What arrives, until every sequence has ended; raises what ended the request.

        A plain index says that this choice begins anew: forget what it had said.
        """
        indices = range(self.num_sequences)
        self._readers = [self.prompt_of(index).reader() for index in indices]
        self._has_called = [False] * self.num_sequences
        num_ended = 0
        while num_ended < self.num_sequences:
            grown: list[Growth | int] = []
            for index, item in await self._taken():
                if isinstance(item, Restarted):
                    self._num_output[index], self._last_s[index] = 0, None
                    self._num_reasoning[index], self._has_called[index] = 0, False
                    self._readers[index] = self.prompt_of(index).reader()
                    grown.append(index)
                else:
                    self._observe(index, item)
                    num_ended += item.finish is not None
                    grown.append(self._read(index, item))
            if num_ended == self.num_sequences:
                self._observe_end()
            yield grown

    async def _taken(self) -> list[tuple[int, Delta | Restarted]]:
        try:
            return await self.mailbox.take()
        except FirefrontError:
            if self.model.arm is not None:
                self.model.arm.failed()
            raise

    def _read(self, index: int, delta: Delta) -> Growth:
        reader = self._readers[index]
        events = reader.push(delta.text) if delta.text else []
        if delta.finish is not None:
            events += reader.finish()
        for event in events:
            if isinstance(event, CallOpened):
                self._has_called[index] = True
        if delta.token_ids and events and isinstance(events[0], Reasoning):
            self._num_reasoning[index] += len(delta.token_ids)
        finish = delta.finish
        if finish == "stop" and self._has_called[index]:
            finish = "tool_calls"
        return Growth(index, events, delta, finish)

    def prompt_of(self, index: int) -> Prompt:
        return self.prompts[index // self.n]

    def usage(self) -> dict[str, Any]:
        """Tokens so far: a prompt counts once, however many choices it has."""
        num_prompt = sum(len(prompt.token_ids) for prompt in self.prompts)
        num_output = sum(self._num_output)
        first = self._usage[:: self.n]
        usage: dict[str, Any] = {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_output,
            "total_tokens": num_prompt + num_output,
            "prompt_tokens_details": {"cached_tokens": sum(u.num_cached for u in first if u)},
        }
        num_predicted = self.n * len(self.prompts[0].prediction)
        accepted = sum(u.num_foretold for u in self._usage if u)
        usage["completion_tokens_details"] = {
            "reasoning_tokens": sum(self._num_reasoning),
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": max(0, num_predicted - accepted),
        }
        return usage

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request came in."""
        return self._gateway.clock.now() - self._started_s

    def _observe(self, index: int, delta: Delta) -> None:
        now_s, telemetry = self._gateway.clock.now(), self._gateway.telemetry
        name, num_tokens = self.model.replica.name, len(delta.token_ids)
        adapter = self._counted_adapter()
        last_s = self._last_s[index]
        if num_tokens:
            if last_s is None:
                telemetry.first_token(name, now_s - self._started_s)
                if adapter is not None:
                    telemetry.adapters.first_token(name, adapter, now_s - self._started_s)
                if self.first_token_s is None:
                    self.first_token_s = now_s - self._started_s
            telemetry.tokens(name, num_tokens, None if last_s is None else now_s - last_s)
            self._last_s[index] = now_s
            self._num_output[index] += num_tokens
        if delta.usage is not None:
            self._usage[index] = delta.usage
            self._num_output[index] = delta.usage.num_output
        if delta.timings is not None:
            self.timings[index] = delta.timings
        if delta.finish is not None:
            self._is_cut |= delta.finish == "length"
            max_tokens = self.prompt_of(index).sampling.max_tokens
            telemetry.finished(name, delta, now_s - self._started_s, max_tokens)
            if adapter is not None:
                telemetry.adapters.finished(name, adapter, delta, now_s - self._started_s)

    def _counted_adapter(self) -> str | None:
        """The adapter's name if there are metrics of it: while it is served."""
        adapter = self.model.adapter
        is_counted = adapter is not None and self._gateway.adapters.serves(adapter.row)
        return adapter.row.name if adapter is not None and is_counted else None

    def _observe_end(self) -> None:
        for first in range(0, self.num_sequences, self.n):
            num_outputs = self._num_output[first : first + self.n]
            self._gateway.telemetry.request(self.model.replica.name, num_outputs)
        if self.model.arm is not None:
            self.model.arm.ended(
                is_cut=self._is_cut,
                output_tokens=sum(self._num_output),
                seconds=self.elapsed_s,
            )

    def _submit(self, index: int) -> Submit:
        prompt, adapter = self.prompt_of(index), self.model.adapter
        choice = index % self.n
        sampling, seed = prompt.sampling, prompt.sampling.seed
        if seed is not None and choice:
            seed = (seed + choice + MAX_SEED + 1) % (2 * MAX_SEED + 2) - MAX_SEED - 1
        return Submit(
            request_id=self._sequence_id(index),
            generation=0,
            token_ids=prompt.token_ids,
            sampling=msgspec.structs.replace(sampling, n=1, seed=seed),
            prediction=prompt.prediction,
            grammar=prompt.grammar,
            priority=self._service.priority,
            account_salt=_salt(self._service),
            adapter=None if adapter is None else adapter.ref,
        )

    def _sequence_id(self, index: int) -> str:
        return f"{self._id}-{index}"


@functools.lru_cache(1024)
def _salt(service: Service) -> bytes:
    """What keeps the cached prefixes of one account, and of one of its salts, apart."""
    return hashlib.sha256(f"{service.account_id}\0{service.cache_salt}".encode()).digest()[:16]
