"""A process that tries grammars out, so that one which takes too long can be killed with it.

Reads frames on its standard input, answers on its output, ends with its input. Knows no accounts
and no requests. Invariant: it never takes more memory than MAX_MEMORY_BYTES, nor much more than
MAX_CPU_S of time for one grammar, even when nobody is there to kill it.
"""

import resource
import sys
import time
from typing import BinaryIO

import msgspec

from firefront.core.errors import GrammarError

MAX_MEMORY_BYTES = 512 << 20
MAX_CPU_S = 4
MAX_FRAME_BYTES = 64 << 20
MAX_BLAME_S = 1.0  # for finding which part of a schema is at fault


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A model's tokens, by the name that grammars will give."""

    name: str
    tokens: list[bytes]
    special_ids: list[int]
    eos_ids: list[int]


class Grammar(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Try this one. Without a vocabulary every token is a byte."""

    source: str
    vocabulary: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: `message` says what is wrong, if something is, and `pointer` where in the
    schema. Times in milliseconds."""

    message: str = ""
    pointer: str = ""
    compile_ms: float = 0.0
    first_mask_ms: float = 0.0


Job = Vocabulary | Grammar
_decoder = msgspec.msgpack.Decoder(Job)


def frame(message: msgspec.Struct) -> bytes:
    """A message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "little") + body


class Trier:
    """Tries grammars against the vocabularies it was told."""

    def __init__(self) -> None:
        import llguidance

        from firefront.text import matching, schema_blame

        self._matching, self._blame = matching, schema_blame.blame
        self._vocabularies: dict[str | None, llguidance.LLTokenizer] = {
            None: llguidance.LLTokenizer("byte")
        }

    def learn(self, vocabulary: Vocabulary) -> None:
        tokens = vocabulary.tokens
        self._vocabularies[vocabulary.name] = self._matching.vocabulary(
            tokens, vocabulary.special_ids, vocabulary.eos_ids, _Longest(tokens).encode
        )

    def judge(self, grammar: Grammar) -> Verdict:
        """Compile it and find out which tokens may begin it."""
        words = self._vocabularies[grammar.vocabulary]
        started_s = time.perf_counter()
        try:
            matcher = self._matching.new_matcher(words, grammar.source)
        except GrammarError as error:
            deadline_s = time.perf_counter() + MAX_BLAME_S
            problem = self._blame(
                grammar.source, error.message, lambda source: self._error_of(source, deadline_s)
            )
            return Verdict(message=problem.message, pointer=problem.pointer)
        compiled_s = time.perf_counter()
        matcher.compute_bitmask()
        if matcher.is_error():
            return Verdict(message=self._matching.plain_reason(matcher.get_error()))
        if matcher.is_stopped() and not matcher.is_accepting():
            return Verdict(message="no token of the model can begin it")
        return Verdict(
            compile_ms=1e3 * (compiled_s - started_s),
            first_mask_ms=1e3 * (time.perf_counter() - compiled_s),
        )

    def _error_of(self, source: str, deadline_s: float) -> str | None:
        if time.perf_counter() > deadline_s:
            return None
        try:
            self._matching.new_matcher(self._vocabularies[None], source)
        except GrammarError as error:
            return error.message
        return None


class _Longest:
    """Text as the longest tokens that fit: near enough where tokens only stand for work."""

    def __init__(self, tokens: list[bytes]) -> None:
        self._ids = {token: i for i, token in enumerate(tokens) if token}
        self._longest = max(map(len, self._ids), default=1)

    def encode(self, text: str) -> list[int]:
        data, ids, start = text.encode(), [], 0
        while start < len(data):
            for end in range(min(len(data), start + self._longest), start, -1):
                if (found := self._ids.get(data[start:end])) is not None:
                    ids.append(found)
                    break
            else:
                end = start + 1
            start = end
        return ids


def main() -> None:
    """Answer until the input ends."""
    trier = Trier()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > MAX_MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _send(sink, Verdict())
    while (job := _receive(source)) is not None:
        _allow_cpu()
        if isinstance(job, Vocabulary):
            trier.learn(job)
            _send(sink, Verdict())
            continue
        try:
            verdict = trier.judge(job)
        except Exception as error:  # the next grammar may be better
            verdict = Verdict(message=f"it cannot be compiled ({type(error).__name__})")
        _send(sink, verdict)


def _receive(source: BinaryIO) -> Job | None:
    prefix = source.read(4)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 4 or length > MAX_FRAME_BYTES:
        return None
    job: Job = _decoder.decode(source.read(length))
    return job


def _send(sink: BinaryIO, verdict: Verdict) -> None:
    sink.write(frame(verdict))
    sink.flush()


def _allow_cpu() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + MAX_CPU_S
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
