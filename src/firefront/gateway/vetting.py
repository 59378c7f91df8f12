"""Grammars tried out before a replica sees them: in a process that is killed if one takes too long.

Owns that process, the queue before it and what it said, account by account. Invariant: whatever a
grammar does, it costs the gateway a bounded time and memory, and only its own request fails.
"""

import asyncio
import contextlib
import hashlib
import sys
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from firefront.core.errors import FirefrontError, GrammarError, OverloadedError
from firefront.gateway.vet_worker import MAX_MEMORY_BYTES, Grammar, Verdict, Vocabulary, frame
from firefront.text.schema_check import Problem, schema_error

LIMIT_S = 3.0  # for one grammar
START_LIMIT_S = 30.0
MAX_WAITING = 1024
MAX_WAITING_EACH = 256  # of one account
MAX_KEPT_BYTES = 256 << 10  # of verdicts, for one account
MAX_ACCOUNTS = 1024
_COMMAND = (sys.executable, "-m", "firefront.gateway.vet_worker")
_KEY_BYTES = 128  # what a kept verdict takes beside its texts
_decoder = msgspec.msgpack.Decoder(Verdict)


class Tokens(Protocol):
    """What vetting needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def eos_ids(self) -> frozenset[int]: ...
    def token_bytes(self, token_id: int, /) -> bytes: ...


class Vetting:
    """Says which grammars may be run. `model`: the name and the tokenizer of the one that would."""

    def __init__(self, command: Sequence[str] = _COMMAND, *, limit_s: float = LIMIT_S) -> None:
        self._command = command
        self._limit_s = limit_s
        self._process: asyncio.subprocess.Process | None = None
        self._taught: set[str] = set()
        self._unteachable: set[str] = set()  # vocabularies that it could not take
        self._turn = asyncio.Lock()
        self._turns: dict[str, asyncio.Lock] = {}  # of accounts: only one of each waits for it
        self._waiting: Counter[str] = Counter()
        self._verdicts = _Verdicts()
        self.num_killed = 0

    async def check(
        self, account_id: str, grammar: str, param: str, model: tuple[str, Tokens] | None = None
    ) -> None:
        """Raise the RequestError of a grammar that cannot be run, naming `param`."""
        verdict = await self.verdict(account_id, grammar, model)
        if verdict.pointer:
            raise schema_error(Problem(verdict.pointer, verdict.message), param)
        if verdict.message:
            raise GrammarError(f"{param}: {verdict.message}", param=param)

    async def verdict(
        self, account_id: str, grammar: str, model: tuple[str, Tokens] | None = None
    ) -> Verdict:
        """What is known of a grammar, or found out now."""
        name = "" if model is None else model[0]
        key = hashlib.sha256(f"{name}\0{grammar}".encode("utf-8", "surrogatepass")).digest()
        if (known := self._verdicts.get(account_id, key)) is not None:
            return known
        if self._waiting[account_id] >= MAX_WAITING_EACH or self._waiting.total() >= MAX_WAITING:
            raise OverloadedError("too many grammars are being looked at")
        self._waiting[account_id] += 1
        try:
            async with self._turns.setdefault(account_id, asyncio.Lock()), self._turn:
                if (known := self._verdicts.get(account_id, key)) is not None:
                    return known
                verdict = await self._try(grammar, model)
        finally:
            self._waiting[account_id] -= 1
            if not self._waiting[account_id]:
                del self._waiting[account_id], self._turns[account_id]
        self._verdicts.put(account_id, key, verdict)
        return verdict

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._taught.clear()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _try(self, grammar: str, model: tuple[str, Tokens] | None) -> Verdict:
        name = None
        if model is not None and await self._teach(*model):
            name = model[0]
        try:
            await self._start()
            return await self._ask(Grammar(source=grammar, vocabulary=name), self._limit_s)
        except TimeoutError:
            return Verdict(message=f"it takes more than {self._limit_s:g} s to compile")
        except EOFError:
            limit = MAX_MEMORY_BYTES >> 20
            return Verdict(message=f"it takes more than {limit} MB of memory to compile")

    async def _teach(self, name: str, tokens: Tokens) -> bool:
        """Tell the process a vocabulary; False if it cannot take it, and bytes must do."""
        await self._start()
        if name in self._taught:
            return True

        def vocabulary() -> Vocabulary:
            return Vocabulary(
                name=name,
                tokens=[tokens.token_bytes(i) for i in range(tokens.vocab_size)],
                special_ids=sorted(tokens.special_ids),
                eos_ids=sorted(tokens.eos_ids),
            )

        if not tokens.eos_ids or name in self._unteachable:
            return False
        try:
            await self._ask(await asyncio.to_thread(vocabulary), START_LIMIT_S)
        except (TimeoutError, EOFError):
            self._unteachable.add(name)
            return False
        self._taught.add(name)
        return True

    async def _start(self) -> None:
        if self._process is not None and self._process.returncode is None:
            return
        await self.close()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await self._answer(START_LIMIT_S)
        except (TimeoutError, EOFError):
            raise FirefrontError("grammars cannot be tried: the process does not start") from None

    async def _ask(self, job: msgspec.Struct, limit_s: float) -> Verdict:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it is gone: so the answer will say
            self._process.stdin.write(frame(job))
        return await self._answer(limit_s)

    async def _answer(self, limit_s: float) -> Verdict:
        """The process's next words. TimeoutError, EOFError: there were none, and it is killed."""
        assert self._process is not None and self._process.stdout is not None
        reader = self._process.stdout
        try:
            async with asyncio.timeout(limit_s):
                length = int.from_bytes(await reader.readexactly(4), "little")
                return _decoder.decode(await reader.readexactly(length))
        except BaseException as error:
            self.num_killed += 1
            await asyncio.shield(self.close())
            if isinstance(error, asyncio.IncompleteReadError | ConnectionError):
                raise EOFError from None
            raise


class _Verdicts:
    """Verdicts of late, least recently used ones forgotten first, an account's apart from
    others'."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, OrderedDict[bytes, Verdict]] = OrderedDict()
        self._bytes: dict[str, int] = {}

    def get(self, account_id: str, key: bytes) -> Verdict | None:
        kept = self._kept.get(account_id)
        verdict = None if kept is None else kept.get(key)
        if kept is not None and verdict is not None:
            kept.move_to_end(key)
            self._kept.move_to_end(account_id)
        return verdict

    def put(self, account_id: str, key: bytes, verdict: Verdict) -> None:
        kept = self._kept.setdefault(account_id, OrderedDict())
        kept[key] = verdict
        num_bytes = self._bytes.get(account_id, 0) + _size(verdict)
        while num_bytes > MAX_KEPT_BYTES:
            num_bytes -= _size(kept.popitem(last=False)[1])
        self._bytes[account_id] = num_bytes
        self._kept.move_to_end(account_id)
        while len(self._kept) > MAX_ACCOUNTS:
            oldest, _ = self._kept.popitem(last=False)
            del self._bytes[oldest]


def _size(verdict: Any) -> int:
    return _KEY_BYTES + len(verdict.message) + len(verdict.pointer)
