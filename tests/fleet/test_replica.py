"""A replica supervised without a gateway: handshake, epochs, restarts, orphans."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from firefront.core.clock import SystemClock
from firefront.core.deployment import Deployment
from firefront.core.errors import NotFoundError, OverloadedError, ReplicaError, RequestError
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.fleet.mailbox import Mailbox, Restarted
from firefront.fleet.process import ReplicaProcess
from firefront.fleet.replica import Replica, ReplicaLimits
from firefront.fleet.router import Router

HERE = Path(__file__).parent
COMMAND = (sys.executable, str(HERE.parent / "gateway" / "fake_replica.py"))
SOURCE = str(HERE.parent.parent / "src")


@pytest.fixture(autouse=True)
def source_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)


@contextlib.asynccontextmanager
async def started(model: str = "fake", **limits: float) -> AsyncIterator[Replica]:
    replica = Replica(
        model, Deployment(model=model), command=COMMAND, limits=ReplicaLimits(**limits)
    )
    replica.start()
    try:
        await replica.wait_ready()
        yield replica
    finally:
        await replica.stop()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(limited())


def submit(replica: Replica, text: str, max_tokens: int = 5, replayable: bool = False) -> Mailbox:
    mailbox = Mailbox(1, SystemClock(), replayable=replayable)
    request = Submit(
        request_id=uuid.uuid4().hex,
        generation=0,
        token_ids=list(text.encode()),
        sampling=SamplingParams(max_tokens=max_tokens),
    )
    replica.submit(request, mailbox, 0)
    return mailbox


async def text_of(mailbox: Mailbox) -> str:
    text = ""
    while True:
        for _, item in await mailbox.take():
            if isinstance(item, Restarted):
                text = ""
                continue
            text += item.text
            if item.finish:
                return text


def test_a_thousand_requests_a_third_cancelled_never_mix() -> None:
    async def test() -> None:
        async with started() as replica:
            alone = [await text_of(submit(replica, f"canary {i}")) for i in range(20)]

            async def one(i: int) -> None:
                mailbox = submit(replica, f"canary {i % 20}")
                if i % 3 == 0:
                    await asyncio.sleep((i % 7) * 0.002)
                    request_ids = [k for k, p in replica._pending.items() if p.mailbox is mailbox]
                    for request_id in request_ids:
                        replica.abort(request_id)
                    return
                assert await text_of(mailbox) == alone[i % 20]

            for start in range(0, 1000, 100):
                await asyncio.gather(*(one(i) for i in range(start, start + 100)))
            assert replica.counts.foreign_deltas == 0
            assert replica.num_pending == 0

    run(test)


def test_an_abort_is_the_last_word() -> None:
    async def test() -> None:
        async with started() as replica:
            mailbox = submit(replica, "x", max_tokens=2000)
            await mailbox.take()
            [request_id] = replica._pending
            replica.abort(request_id)
            await asyncio.sleep(0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_drained(mailbox), 0.2)
            replica.abort("nobody")

    run(test)


def test_an_adapter_is_unloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_LOG", str(log))

    async def test() -> None:
        Replica("fake", Deployment(model="fake")).unload_adapter("d1")  # not started: no effect
        async with started() as replica:
            replica.unload_adapter("d2")
            await text_of(submit(replica, "x"))
        assert [line for line in log.read_text().splitlines() if "unload" in line] == ["unload d2"]

    run(test)


async def _drained(mailbox: Mailbox) -> None:
    while True:
        await mailbox.take()


def test_restart_with_backoff_and_one_retry() -> None:
    async def test() -> None:
        async with started(backoff_min_s=0.05) as replica:
            first = replica.hello
            mailbox = submit(replica, "x", max_tokens=300, replayable=True)
            stream = submit(replica, "y", max_tokens=300)
            await stream.take()
            os.kill(first.pid, signal.SIGKILL)
            assert len(await text_of(mailbox)) == 300
            with pytest.raises(ReplicaError):
                await _drained(stream)
            assert replica.hello.pid != first.pid
            assert (replica.counts.restarts, replica.counts.retries) == (1, 1)

    run(test)


def test_a_request_waits_only_so_long_for_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with started(retry_s=0.3) as replica:
            monkeypatch.setenv("FAKE_LOAD_S", "30")
            mailbox = submit(replica, "DIE")
            with pytest.raises(OverloadedError, match="did not come back"):
                await mailbox.take()
            late = submit(replica, "x")  # held, but no longer than the other
            with pytest.raises(OverloadedError, match="did not come back"):
                await late.take()
            assert replica.num_pending == 0

    run(test)


def test_requests_during_a_restart_are_held() -> None:
    async def test() -> None:
        async with started(backoff_min_s=0.2) as replica:
            alone = await text_of(submit(replica, "held"))
            os.kill(replica.hello.pid, signal.SIGKILL)
            while replica.state == "ready":
                await asyncio.sleep(0.01)
            held = submit(replica, "held")
            replica.deployment = msgspec.structs.replace(replica.deployment, max_waiting=1)
            with pytest.raises(OverloadedError, match="restarting"):
                submit(replica, "one too many")
            assert await text_of(held) == alone

    run(test)


def test_stopping_fails_what_is_out() -> None:
    async def test() -> None:
        async with started() as replica:
            mailbox = submit(replica, "x", max_tokens=2000)
            await mailbox.take()
            pid = replica.hello.pid
        with pytest.raises(ReplicaError, match="shutting down"):
            await _drained(mailbox)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(test)


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [("broken", RequestError, "damaged"), ("crash", ReplicaError, "does not start")],
)
def test_what_cannot_start(model: str, error: type[Exception], says: str) -> None:
    async def test() -> None:
        with pytest.raises(error, match=says):
            async with started(model, backoff_min_s=0.01):
                pass

    run(test)


def test_the_folder_is_private_and_goes_away(tmp_path: Path) -> None:
    async def test() -> None:
        process = await ReplicaProcess.spawn(Deployment(model="fake"), COMMAND)
        folder = process._folder
        assert folder.stat().st_mode & 0o777 == 0o700
        await process.shake_hands(10)
        cmdline = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert process._token.encode() not in cmdline
        await process.close()
        assert not folder.exists()

    run(test)


IMPOSTOR = """
import pickle, socket, sys
path = next(a for a in sys.argv if a.startswith("--socket")).partition("=")[2]
s = socket.socket(socket.AF_UNIX); s.connect(path)
what = sys.argv[1]
if what == "pickle":
    class Canary:
        def __reduce__(self):
            return open, (sys.argv[2], "w")
    body = pickle.dumps(Canary())
elif what == "token":
    from firefront.core import messages
    body = messages.encode(messages.Hello(version=1, token="guess", model="m", max_model_len=1,
        num_blocks=1, block_size=16, pid=1))[4:]
elif what == "version":
    import os
    from firefront.core import messages
    body = messages.encode(messages.Hello(version=99, token=os.environ["FIREFRONT_BOOT_TOKEN"],
        model="m", max_model_len=1, num_blocks=1, block_size=16, pid=1))[4:]
length = 2**32 - 1 if what == "long" else len(body)
s.sendall(length.to_bytes(4, "little") + (b"" if what == "long" else body))
s.recv(1)
"""


@pytest.mark.parametrize("what", ["pickle", "token", "version", "long"])
def test_impostors_are_shown_the_door(tmp_path: Path, what: str) -> None:
    canary = tmp_path / "canary"

    async def test() -> None:
        command = (sys.executable, "-c", IMPOSTOR, what, str(canary))
        process = await ReplicaProcess.spawn(Deployment(model="fake"), command)
        with pytest.raises(ReplicaError):
            await process.shake_hands(5)
        await process.close()

    run(test)
    assert not canary.exists()


def test_a_worker_that_hears_nonsense_leaves(tmp_path: Path) -> None:
    async def test() -> None:
        process = await ReplicaProcess.spawn(Deployment(model="fake"), COMMAND)
        await process.shake_hands(10)
        process._writer.write(b"\x05\x00\x00\x00nope!")
        await asyncio.wait_for(process._process.wait(), 2)
        await process.close()

    run(test)


ORPHAN = """
import asyncio, os, sys
from firefront.core.deployment import Deployment
from firefront.fleet.process import ReplicaProcess
async def main():
    process = await ReplicaProcess.spawn(Deployment(model="HANG"), sys.argv[1:])
    await process.shake_hands(10)
    print(process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_orphans_end_within_two_seconds() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, *COMMAND], stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(40):
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
        except OSError:
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("the replica outlived its gateway")


def test_router_names_what_is_served() -> None:
    async def test() -> None:
        names = ["a", "org/b"]
        router = Router(Replica(n, Deployment(model=n)) for n in names)
        assert router.find("org/b").name == "org/b"
        with pytest.raises(NotFoundError, match="a, org/b"):
            router.find("c")
        with pytest.raises(RequestError, match="--model: two are called 'a'"):
            Router([Replica("a", Deployment(model="a")), Replica("a", Deployment(model="a"))])

    run(test)
