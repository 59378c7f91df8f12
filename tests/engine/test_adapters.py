"""Which adapters are resident: every row has its own and no other's keys and values, whatever comes
and goes; nobody who waits for one starves; a file that cannot be read ends its own requests."""

import random

import pytest

from firefront.core.errors import FirefrontError, ModelFileError, RequestError
from firefront.core.messages import AdapterRef
from firefront.core.sampling import SamplingParams
from firefront.engine.adapters import MAX_READ, Adapters
from firefront.engine.preparing import check_now, read_now
from tests.engine.fake_executor import FakeExecutor, FakePacked, expected
from tests.engine.harness import Harness


def ref_of(name: str, *, is_pinned: bool = False) -> AdapterRef:
    path, sha256 = f"/at/{name}", f"digest of {name}"
    return AdapterRef(name=name, sha256=sha256, path=path, is_pinned=is_pinned)


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)


class Shelf:
    """An AdapterReader: takes `delay` rounds to read, `sizes` bytes; `broken` ones cannot be."""

    def __init__(self, delay: int = 0, sizes: dict[str, int] | None = None) -> None:
        self.delay = delay
        self.sizes = sizes or {}
        self.broken: set[str] = set()
        self.read_names: list[str] = []
        self._reading: list[tuple[int, AdapterRef]] = []

    def read(self, ref: AdapterRef) -> None:
        self.read_names.append(ref.name)
        self._reading.append((self.delay, ref))

    def check(self, ref: AdapterRef) -> None:
        check_now(self._packed, ref)

    def take(self) -> list[tuple[AdapterRef, object]]:
        ready = [ref for left, ref in self._reading if left <= 0]
        self._reading = [(left - 1, ref) for left, ref in self._reading if left > 0]
        return [(ref, read_now(self._packed, ref)) for ref in ready]

    def _packed(self, ref: AdapterRef) -> FakePacked:
        if ref.name in self.broken:
            raise ModelFileError(f"{ref.path}/adapter_config.json", "use_dora", "cannot be served")
        return FakePacked(ref.sha256.encode(), self.sizes.get(ref.name, 1))


class Rig(Harness):
    """A harness whose executor takes adapters; `self.wanted` are the tokens that must come out."""

    def __init__(
        self, max_adapters: int = 0, max_bytes: int = 10**9, shelf: Shelf | None = None,
        executor: FakeExecutor | None = None, **config: object,
    ) -> None:  # fmt: skip
        self.shelf = shelf or Shelf()
        executor = executor or FakeExecutor(num_blocks=256)
        self.adapters = Adapters(
            executor, self.shelf, max_adapters=max_adapters, max_bytes=max_bytes
        )
        super().__init__(executor, adapters=self.adapters, **config)
        self.wanted: dict[str, list[int]] = {}

    def ask(
        self, name: str, adapter: str | None, prompt: list[int] | None = None, max_tokens: int = 8,
        is_pinned: bool = False, **fields: object,
    ) -> None:  # fmt: skip
        prompt = prompt or [1, 2, 3]
        ref = ref_of(adapter, is_pinned=is_pinned) if adapter else None
        self.submit(name, prompt, greedy(max_tokens), adapter=ref, **fields)
        key = ref.sha256.encode() if ref else b""
        self.wanted[name] = expected(prompt, greedy(max_tokens), adapter=key)

    def check(self) -> None:
        for name, tokens in self.wanted.items():
            assert self.outputs[name].token_ids == tokens, name

    @property
    def resident(self) -> set[str]:
        keys = self.executor.adapters.values()
        return {key.decode().removeprefix("digest of ") for key in keys}

    def begun(self, name: str) -> bool:
        return bool(self.outputs[name].token_ids)


def test_a_batch_of_several_adapters_and_none() -> None:
    rig = Rig()
    prompt = list(range(1, 40))
    for i, adapter in enumerate(["a", "b", None, "a", None, "c"]):
        rig.ask(str(i), adapter, prompt, max_tokens=20)
    rig.run()
    rig.check()
    assert len({tuple(tokens) for tokens in rig.wanted.values()}) == 4
    assert rig.resident == {"a", "b", "c"}
    stats = rig.engine.stats()
    assert (stats.num_adapters, stats.adapter_bytes, stats.num_adapter_loads) == (3, 3, 3)


def test_prefixes_are_shared_by_digest_not_by_name() -> None:
    rig = Rig(token_budget=512)
    prompt = [(7 * i) % 101 for i in range(64)]
    cached = {}
    rows = {"cold": ("a", "x"), "other": ("b", "x"), "base": (None, ""), "again": ("a", "x"),
            "renamed": ("a", "y"), "changed": ("c", "x")}  # fmt: skip
    for name, (adapter, served_as) in rows.items():
        ref = AdapterRef(name=served_as, sha256=adapter, path="/p") if adapter else None
        rig.submit(name, prompt, greedy(4), adapter=ref)
        rig.run()
        key = adapter.encode() if adapter else b""
        assert rig.outputs[name].token_ids == expected(prompt, greedy(4), adapter=key)
        cached[name] = rig.outputs[name].last.usage.num_cached
    assert cached == {"cold": 0, "other": 0, "base": 0, "again": 48, "renamed": 48, "changed": 0}


def test_least_recently_used_out_pinned_and_running_never() -> None:
    rig = Rig(max_adapters=3)
    rig.ask("p", "pinned", is_pinned=True)
    for name in ("a", "b"):
        rig.ask(name, name)
        rig.run()
    rig.ask("a2", "a")
    rig.run()
    rig.ask("c", "c")
    rig.run()
    assert rig.resident == {"pinned", "a", "c"}  # b was the least recently used
    rig.ask("long", "a", max_tokens=60)
    rig.step()
    for name in ("d", "e", "f"):
        rig.ask(name, name)
        while rig.outputs[name].finish is None:
            rig.step()
            assert {"pinned", "a"} <= rig.resident and len(rig.resident) <= 3
    assert not rig.outputs["long"].finish
    rig.run()
    rig.check()
    assert rig.shelf.read_names == ["pinned", "a", "b", "c", "d", "e", "f"]
    rig.ask("unpinned", "pinned")  # the last word counts
    rig.run()
    for name in ("g", "h", "i"):
        rig.ask(name, name)
        rig.run()
    assert rig.resident == {"g", "h", "i"}


def test_a_pin_is_its_names_own() -> None:
    """The same files under another name that nobody pinned."""
    rig = Rig(max_adapters=2)
    rig.ask("p", "same", is_pinned=True)
    rig.run()
    unpinned = AdapterRef(name="other", sha256=ref_of("same").sha256, path="/at/other")
    rig.submit("q", [1, 2, 3], greedy(4), adapter=unpinned)
    rig.run()
    for name in ("a", "b", "c"):
        rig.ask(name, name)
        rig.run()
    assert rig.resident == {"same", "c"}


def test_others_pass_one_that_waits_for_its_adapter() -> None:
    rig = Rig(shelf=Shelf(delay=5))
    rig.ask("cold", "a", max_tokens=4)
    rig.ask("base", None, max_tokens=4)
    rig.step()
    assert rig.begun("base") and not rig.begun("cold")
    for _ in range(10):
        rig.step()
    assert rig.begun("cold")
    rig.run()
    rig.check()


def test_who_finds_all_residents_in_use_waits_and_does_not_starve() -> None:
    """Requests for the two residents never stop coming; the third gets its turn all the same."""
    rig = Rig(max_adapters=2)
    for i in range(4):
        rig.ask(f"old{i}", "ab"[i % 2], max_tokens=6 + 3 * i)
    rig.step()
    rig.ask("third", "c")
    num_steps = 0
    while not rig.begun("third"):
        rig.ask(f"new{num_steps}", "ab"[num_steps % 2], max_tokens=9)
        rig.step()
        num_steps += 1
        assert num_steps < 60, "starved"
    assert num_steps > 1
    assert any(rig.begun(f"new{i}") for i in range(num_steps)), "those of the other resident go on"
    rig.run()
    rig.check()


def test_one_large_adapter_gets_the_room_of_several() -> None:
    rig = Rig(max_bytes=10, shelf=Shelf(sizes={"large": 9} | dict.fromkeys("abcdef", 3)))
    for name in "abc":
        rig.ask(name, name, max_tokens=12)
    rig.step()
    rig.step()
    rig.ask("large", "large")
    for i in range(40):
        rig.ask(f"more{i}", "abcdef"[i % 6], max_tokens=5)
        rig.step()
    assert rig.begun("large")
    rig.run()
    rig.check()


def test_what_can_never_have_room_is_refused() -> None:
    rig = Rig(max_adapters=2, max_bytes=10, shelf=Shelf(sizes={"large": 11, "half": 6}))
    rig.ask("large", "large")
    rig.ask("base", None)
    rig.run()
    assert rig.outputs["large"].last.error_code == "invalid_request_error"
    assert "adapter large: takes 0.0 MiB; adapters may take" in rig.outputs["large"].last.error
    rig.ask("half", "half", is_pinned=True)
    rig.ask("small", "small", is_pinned=True)
    rig.run()
    rig.ask("more", "more")
    rig.run()
    assert "all 2 adapters that may be in memory are pinned" in rig.outputs["more"].last.error
    for name in ("large", "more"):
        del rig.wanted[name]
    rig.check()


def test_a_file_that_cannot_be_read_ends_its_own_requests() -> None:
    rig = Rig(shelf=Shelf(delay=2))
    rig.shelf.broken = {"bad"}
    for i, adapter in enumerate(["bad", "good", None, "bad"]):
        rig.ask(str(i), adapter)
    rig.run()
    for i in "03":
        last = rig.outputs[i].last
        assert (last.finish, last.error_code) == ("error", "invalid_model_file")
        assert last.error.startswith("adapter bad/adapter_config.json: use_dora")
        assert "/at/" not in last.error
        del rig.wanted[i]
    assert rig.shelf.read_names == ["bad", "good"]
    rig.shelf.broken = set()
    rig.ask("repaired", "bad")  # asked for again, read again
    rig.run()
    rig.check()


def test_an_abort_or_a_deadline_while_it_is_read() -> None:
    rig = Rig(max_adapters=1, shelf=Shelf(delay=3))
    rig.ask("gone", "a")
    rig.ask("late", "b", deadline_s=5.0)
    rig.step()
    rig.engine.abort("gone", 1)
    rig.clock.advance(6.0)
    rig.run()
    assert rig.outputs["gone"].finish == "abort"
    assert rig.outputs["late"].last.error_code == "deadline_exceeded"
    rig.ask("c", "c")
    rig.run()
    assert rig.outputs["c"].token_ids == rig.wanted["c"] and rig.resident == {"c"}
    assert not rig.adapters._packed and not rig.adapters._reading


def test_a_more_urgent_request_is_not_kept_out_by_what_others_have_read() -> None:
    rig = Rig(max_adapters=1)
    rig.ask("long", "held", max_tokens=30)
    rig.step()
    for i in range(MAX_READ):
        rig.ask(f"patient{i}", f"p{i}", priority=5)
    rig.step()
    rig.step()
    rig.ask("urgent", "u", priority=-5)
    rig.run()
    rig.check()
    read = rig.shelf.read_names
    assert read.index("u") == 1 + MAX_READ
    assert len(read) == len(set(read)) + 1  # one had to make way, and was read again


def test_unloaded_with_its_last_user() -> None:
    rig = Rig()
    rig.ask("a", "a", is_pinned=True, max_tokens=12)
    rig.ask("b", "b", is_pinned=True, max_tokens=6)
    rig.step()
    rig.step()
    for name in ("a", "b", "unknown"):
        rig.engine.unload_adapter(ref_of(name).sha256)
    while not rig.outputs["b"].finish:
        rig.step()
    assert rig.resident == {"a"}
    rig.run()
    rig.check()
    assert rig.resident == set()


@pytest.mark.parametrize("seed", range(6))
def test_random_work(seed: int) -> None:
    """Tiny pools that preempt, few residents, drawn-out reads, aborts, priorities, salts."""
    rng = random.Random(seed)
    names = "abcdefg"
    shelf = Shelf(sizes={name: rng.randint(1, 4) for name in names})
    shelf.broken = {"g"}
    pool = rng.choice((8, 16, 64))
    rig = Rig(
        max_adapters=rng.choice((0, 1, 2, 3)),
        max_bytes=rng.choice((4, 6, 9)),
        shelf=shelf,
        executor=FakeExecutor(num_blocks=pool, max_model_len=pool * 16),
        max_num_seqs=rng.randint(2, 8),
        token_budget=rng.randint(8, 64),
    )
    num_requests, aborted = 40, set()
    for _ in range(4000):
        shelf.delay = rng.choice((0, 0, 1, 4))
        if len(rig.outputs) < num_requests and rng.random() < 0.3:
            rig.ask(
                str(len(rig.outputs)),
                rng.choice([None, *names[: rng.randint(1, 7)]]),
                [rng.choice((1, 2))] * rng.randint(1, 70),
                max_tokens=rng.randint(1, 40),
                priority=rng.randint(0, 2),
                account_salt=rng.choice((b"", b"x")),
            )
        if rng.random() < 0.02 and rig.outputs:
            name = rng.choice(list(rig.outputs))
            rig.engine.abort(name, 1)
            aborted.add(name)
        rig.step()
        assert set(rig.executor.adapters) == {
            resident.adapter_id for resident in rig.adapters._residents.values()
        }
        if len(rig.outputs) == num_requests and not rig.engine.has_work:
            break
    assert not rig.engine.has_work and len(rig.outputs) == num_requests, "livelock"
    for name, output in rig.outputs.items():
        if output.finish == "error":
            assert "adapter g" in output.last.error
        elif name in aborted:
            assert output.token_ids == rig.wanted[name][: len(output.token_ids)]
        else:
            assert output.token_ids == rig.wanted[name]


def test_errors_of_reading_are_for_those_who_asked() -> None:
    ref = ref_of("mine")

    def fails(error: Exception) -> FirefrontError:
        def read(_: AdapterRef) -> None:
            raise error

        outcome = read_now(read, ref)
        assert isinstance(outcome, RequestError)
        return outcome

    told = fails(ModelFileError(f"{ref.path}/x", "r", "is 0"))
    assert (told.message, told.code) == ("adapter mine/x: r: is 0", "invalid_model_file")
    defect = fails(ZeroDivisionError("secret"))
    assert defect.message == "adapter mine: cannot be read (ZeroDivisionError)"
