"""One incarnation of a replica process: spawn it, shake hands, exchange frames, end it.

Owns the private folder (0700) with the socket and the deployment file. Knows nothing of requests.
Invariant: no frame is handed on before a Hello with our boot token, from our user, in our version.
"""

import asyncio
import hmac
import os
import secrets
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from firefront.core import messages
from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError, OverloadedError, ReplicaError, RequestError

DEFAULT_COMMAND = (sys.executable, "-m", "firefront.engine.worker")
MAX_UNSENT_BYTES = 128 << 20
_READ_BYTES = 1 << 20
_EXIT_LIMIT_S = 2.0


class ReplicaProcess:
    """A started process; `hello` is set once it serves."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, token: str) -> None:
        self.hello: messages.Hello | None = None
        self._folder = folder
        self._process = process
        self._token = token
        self._unread = bytearray()
        self._frames: deque[bytes] = deque()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._server: asyncio.Server | None = None

    @classmethod
    async def spawn(cls, deployment: Deployment, command: Sequence[str]) -> "ReplicaProcess":
        """Start the process, from the loop's thread: the child dies with the thread that forks."""
        folder = Path(tempfile.mkdtemp(prefix="firefront-"))  # 0700
        token = secrets.token_hex(32)
        deployment_file, socket_path = folder / "deployment.json", folder / "replica.sock"
        listener: socket.socket | None = None
        try:
            deployment_file.write_bytes(msgspec.json.encode(deployment))
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(socket_path))
            listener.listen(8)
            process = await asyncio.create_subprocess_exec(
                *command,
                f"--socket={socket_path}",
                f"--deployment={deployment_file}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.__stderr__,
                env={**os.environ, messages.TOKEN_VARIABLE: token},
                start_new_session=True,  # Ctrl-C in the terminal must not reach it
            )
            self = cls(folder, process, token)
            self._server = await asyncio.start_unix_server(self._accept, sock=listener)
        except BaseException:
            if listener is not None:
                listener.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    async def shake_hands(self, limit_s: float) -> messages.Hello:
        """Wait until the model is loaded.

        Raises RequestError when the deployment is at fault (do not restart), else ReplicaError.
        """
        exited = asyncio.ensure_future(self._process.wait())
        greeted = asyncio.ensure_future(self._greet())
        try:
            await asyncio.wait(
                {exited, greeted}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if exited.done() and not greeted.done():
                await asyncio.wait({greeted}, timeout=0.2)  # its last words may still be on the way
            if greeted.done():
                self.hello = greeted.result()
                return self.hello
            if exited.done():
                raise ReplicaError(f"the replica ended with code {exited.result()} while it loaded")
            raise ReplicaError(f"the replica was not ready after {limit_s:g} s")
        finally:
            exited.cancel()
            greeted.cancel()

    async def receive(self) -> messages.AnyMessage | None:
        """The next frame; None when the process is gone or speaks something else."""
        assert self._reader is not None
        try:
            while not self._frames:
                data = await self._reader.read(_READ_BYTES)
                if not data:
                    return None
                self._unread += data
                self._split()
            return messages.decode(self._frames.popleft())
        except (OSError, msgspec.DecodeError, RecursionError, ValueError):
            return None

    def _split(self) -> None:
        """Take the whole frames out of what was read: those of one step come in one piece."""
        unread, place = self._unread, 0
        while len(unread) >= place + 4:
            end = place + 4 + int.from_bytes(unread[place : place + 4], "little")
            if end - place > messages.MAX_FRAME_BYTES + 4:
                raise ValueError("a frame is too long")
            if end > len(unread):
                break
            self._frames.append(bytes(unread[place + 4 : end]))
            place = end
        del unread[:place]

    def send(self, message: messages.Message) -> None:
        """Hand a frame to the socket without waiting; OverloadedError when too much is unsent."""
        assert self._writer is not None
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise OverloadedError("the replica does not keep up with its requests")
        self._writer.write(messages.encode(message))

    def dump_stacks(self) -> None:
        """Make the process print the stacks of its threads (it may be too stopped to do so)."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def close(self) -> int:
        """Close the socket, which ends the process; kill it if it lingers. Returns its code."""
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
        try:
            if self._writer is None:
                self.kill()
            return await asyncio.wait_for(self._process.wait(), _EXIT_LIMIT_S)
        except TimeoutError:
            self.kill()
            return await self._process.wait()
        finally:
            self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer_uid(writer.get_extra_info("socket"))
        if self._reader is not None or peer not in (None, os.getuid()):
            writer.close()
            return
        self._reader, self._writer = reader, writer
        self._connected.set()

    async def _greet(self) -> messages.Hello:
        await self._connected.wait()
        match await self.receive():
            case messages.Hello() as hello:
                if not hmac.compare_digest(hello.token, self._token):
                    raise ReplicaError("something without the boot token connected")
                if hello.version != messages.PROTOCOL_VERSION:
                    raise ReplicaError(
                        f"the replica speaks version {hello.version} of the protocol, "
                        f"the gateway {messages.PROTOCOL_VERSION}: restart the whole server"
                    )
                return hello
            case messages.Error(message=text):
                raise await self._load_failure(text)
            case _:
                raise ReplicaError("the replica left while it loaded")

    async def _load_failure(self, text: str) -> FirefrontError:
        code = await self._process.wait()
        return RequestError(text) if code == messages.EXIT_BAD_DEPLOYMENT else ReplicaError(text)


def _peer_uid(connection: socket.socket) -> int | None:
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[1])
