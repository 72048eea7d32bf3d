"""Clients of the soak: good ones, whose latencies are measured, and bad ones of many kinds.

Bad clients run in a process of their own, so that they can disturb the good ones only at the server. Each of them ends
within `PATIENCE_S`, and accepts any reaction of the server.

    python -m benchmarks.soak.clients crowd HOST PORT NUMBER SEED KIND...

runs NUMBER bad clients at a time until its standard input ends; then it prints the number of clients of each kind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from time import perf_counter

import attrs
import numpy as np
import trio

from benchmarks.load.workloads import workload
from engine.errors import EngineError, leaves
from engine.limits import ResourceLimits
from engine.manifest import Manifest, NodeSpec
from engine.messages import Chunk, Result, SessionMetrics
from nodes.contract import Audio
from transport.client import Client, RemoteSession, connect
from transport.client.channel import Channel, channel_over, open_channel
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.grpc.status import RpcError

__all__ = ["KINDS", "OTHERWISE", "RATE", "Good", "Where"]

PATIENCE_S = 8.0
PAUSE_S = 0.2
NICENESS = 10
OTHERWISE = "cut or refused"
RATE = 48_000
CHUNK_MS = 20
SPEECH = workload("speech")
_ECHO = workload("passthrough")
_BLOCK = Audio(np.zeros((960, 1), np.int16), RATE)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM = f"/{STREAMING_SERVICE}/StreamPipeline"
_UNARY = f"/{EXECUTION_SERVICE}/ExecutePipeline"
_COUNTED = ("received", "accepted", "refused", "delivered", "rejected", "dropped", "cancelled", "missing")


@attrs.frozen
class Where:
    """Address of the server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


# ---- a good client


@attrs.define
class Good:
    """Client at a microphone's pace, with one session after another.

    Attributes:
      speech: Audio of each session, at `RATE`.
      latencies_ms: Times from when a chunk was due to its result.
      ledger: Sum of the ledgers in the sessions' final metrics.
      sessions: Number of sessions that ended well.
      failures: Descriptions of failures; there should be none.
    """

    where: Where
    speech: Audio
    latencies_ms: list[float] = attrs.field(factory=list)
    ledger: Counter[str] = attrs.field(factory=Counter)
    sessions: int = 0
    failures: list[str] = attrs.field(factory=list)

    async def run(self, stop: trio.Event) -> None:
        """Stream until `stop` is set; the session under way is then closed."""
        while not stop.is_set():
            try:
                async with connect(str(self.where)) as client, client.stream(SPEECH) as session:
                    await self._talk(session, stop)
            except* (EngineError, RpcError) as group:
                self.failures += map(str, leaves(group))
                await trio.sleep(PAUSE_S)

    async def _talk(self, session: RemoteSession, stop: trio.Event) -> None:
        due: dict[int, float] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, session, due, stop)
            async for event in session:
                if isinstance(event, Result) and event.sequence is not None and not event.flush:
                    self.latencies_ms.append((perf_counter() - due.pop(event.sequence)) * 1e3)
                elif isinstance(event, SessionMetrics) and event.final:
                    self._account(event)
                elif isinstance(event, EngineError):
                    self.failures.append(str(event))
        if due:
            self.failures.append(f"{len(due)} chunks without a result")
        self.sessions += 1

    async def _send(self, session: RemoteSession, due: dict[int, float], stop: trio.Event) -> None:
        frames = self.speech.frames
        step = RATE * CHUNK_MS // 1000
        began = perf_counter()
        for sequence, start in enumerate(range(0, len(frames) - step + 1, step)):
            due[sequence] = began + sequence * CHUNK_MS / 1000
            await trio.sleep(max(0.0, due[sequence] - perf_counter()))
            if stop.is_set():
                del due[sequence]
                break
            await session.send(Chunk(Audio(frames[start : start + step], RATE), sequence))
        await session.close()

    def _account(self, final: SessionMetrics) -> None:
        counts = {name: getattr(final, name) for name in _COUNTED}
        self.ledger.update(counts)
        ended = counts["delivered"] + counts["rejected"] + counts["dropped"] + counts["cancelled"]
        if counts["received"] != counts["accepted"] + counts["refused"] or counts["accepted"] != ended:
            self.failures.append(f"a ledger that does not balance: {counts}")


# ---- bad clients


async def _send_some(session: RemoteSession, count: int) -> None:
    for sequence in range(count):
        await session.send(Chunk(_BLOCK, sequence))


async def leave(where: Where, random: Random) -> None:
    """Leave in mid-stream, with RST_STREAM."""
    async with connect(str(where)) as client, client.stream(SPEECH) as session:
        await _send_some(session, random.randrange(20))


async def deadline(where: Where, random: Random) -> None:
    """Set a deadline that passes."""
    async with connect(str(where)) as client, client.stream(SPEECH, timeout_s=0.2 * random.random()) as session:
        await _send_some(session, 100)
        await session.receive()


async def disconnect(where: Where, random: Random) -> None:
    """Drop the connection without GOAWAY while sessions are open."""
    stream = await trio.open_tcp_stream(where.host, where.port)
    async with channel_over(stream, str(where)) as channel:
        client = Client(channel)
        async with client.stream(SPEECH) as session, client.stream(_ECHO):
            await _send_some(session, random.randrange(20))
            await trio.aclose_forcefully(stream)


async def kill(where: Where, random: Random) -> None:
    """Run a client process that is killed in mid-stream."""
    command = [sys.executable, "-m", "benchmarks.soak.clients", "victim", where.host, str(where.port)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        await process.stdout.receive_some(16)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def stall(where: Where, random: Random) -> None:
    """Send, and read only the first few bytes from the socket."""
    stream = await trio.open_tcp_stream(where.host, where.port)
    async with channel_over(_Stalled(stream), str(where)) as channel, channel.call(_STREAM) as call:
        while True:
            await call.send(random.randbytes(60_000))


class _Stalled(trio.abc.Stream):
    """Stream that reads the first few bytes, and then no more."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._n_read = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._n_read > 200:
            await trio.sleep_forever()
        data = await self._stream.receive_some(max_bytes)
        self._n_read += len(data)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def unread(where: Where, random: Random) -> None:
    """Send far more to a session than is read from it."""
    async with connect(str(where)) as client, client.stream(_ECHO) as session:
        with trio.move_on_after(5):
            await _send_some(session, 10_000)


async def garbage(where: Where, random: Random) -> None:
    """Send random bytes, at once or after a valid beginning."""
    stream = await trio.open_tcp_stream(where.host, where.port)
    async with stream:
        beginning = random.choice((b"", _PREFACE, _PREFACE + b"\0\0\0\4\0\0\0\0\0"))
        await stream.send_all(beginning + random.randbytes(random.randrange(1, 100_000)))
        while await stream.receive_some(65536):
            pass


async def silence(where: Where, random: Random) -> None:
    """Connect, and send nothing but a part of the preface."""
    stream = await trio.open_tcp_stream(where.host, where.port)
    async with stream:
        await stream.send_all(_PREFACE[: random.randrange(1, 24)])
        while await stream.receive_some(65536):
            pass


async def http1(where: Where, random: Random) -> None:
    """Send an HTTP/1.1 request."""
    stream = await trio.open_tcp_stream(where.host, where.port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: there\r\n\r\n")
        while await stream.receive_some(65536):
            pass


async def resets(where: Where, random: Random) -> None:
    """Open calls and reset them at once, as fast as possible."""
    async with open_channel(where.host, where.port) as channel:
        for _ in range(2_000):
            async with channel.call(_STREAM):
                pass
            await trio.lowlevel.checkpoint()


async def nonsense(where: Where, random: Random) -> None:
    """Send random bytes as messages, to methods that exist and to one that does not."""
    async with open_channel(where.host, where.port) as channel:
        for path in (_STREAM, _UNARY, "/no.Such/Method"):
            async with channel.call(path, timeout_s=PATIENCE_S) as call:
                await call.send(random.randbytes(random.randrange(1, 1000)))
                call.half_close()
                await call.status()


async def wrong_manifests(where: Where, random: Random) -> None:
    """Request pipelines with invalid manifests."""
    async with connect(str(where)) as client:
        for manifest in (
            Manifest("v1", (NodeSpec("a", "Nonesuch"),)),
            Manifest("v9", ()),
            Manifest("v1", tuple(NodeSpec(f"n{i}", "PassThrough") for i in range(500))),
        ):
            await _expect_refusal(client.execute(manifest))
            await _expect_refusal(_open(client, manifest))


async def _open(client: Client, manifest: Manifest) -> None:
    async with client.stream(manifest):
        pass


async def _expect_refusal(asked: Awaitable[object]) -> None:
    try:
        await asked
    except EngineError:
        return
    raise AssertionError("an invalid request was accepted")


async def too_much(where: Where, random: Random) -> None:
    """Exceed the limits of a call, and send half of a message that is too large."""
    async with connect(str(where)) as client:
        await _expect_refusal(client.execute(_ECHO, {"pass": _BLOCK}, limits=ResourceLimits(max_audio_samples=10)))
    async with open_channel(where.host, where.port) as channel, channel.call(_UNARY, timeout_s=PATIENCE_S) as call:
        with trio.move_on_after(0.2):
            await call.send(bytes(20_000_000 + random.randrange(20_000_000)))
        await _end(channel)


async def _end(channel: Channel) -> None:
    channel.driver.close("closed with a message half sent")
    await trio.lowlevel.checkpoint()


KINDS: dict[str, Callable[[Where, Random], Awaitable[None]]] = {
    kind.__name__: kind
    for kind in (
        leave,
        deadline,
        disconnect,
        kill,
        stall,
        unread,
        garbage,
        silence,
        http1,
        resets,
        nonsense,
        wrong_manifests,
        too_much,
    )
}


async def misbehave(where: Where, kinds: Sequence[str], stop: trio.Event, random: Random, done: Counter[str]) -> None:
    """Run one bad client after another, of random kinds; `kill`, which starts a process, is less likely."""
    shares = [0.3 if kind == "kill" else 1.0 for kind in kinds]
    while not stop.is_set():
        name = random.choices(kinds, shares)[0]
        with trio.move_on_after(PATIENCE_S):
            try:
                await KINDS[name](where, random)
            except (RpcError, EngineError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                done[OTHERWISE] += 1
        done[name] += 1
        await trio.sleep(2 * PAUSE_S * random.random())


async def _crowd(where: Where, number: int, seed: str, kinds: Sequence[str]) -> None:
    print("here", flush=True)
    stop, done = trio.Event(), Counter[str]()
    async with trio.open_nursery() as nursery:
        for i in range(number):
            nursery.start_soon(misbehave, where, kinds, stop, Random(f"{seed} {i}"), done)
        async with trio.lowlevel.FdStream(os.dup(0)) as orders:
            while await orders.receive_some(64):
                pass
        stop.set()
    print(json.dumps(done), flush=True)


async def _victim(where: Where) -> None:
    async with connect(str(where)) as client, client.stream(SPEECH) as session:
        print("here", flush=True)
        while True:
            await _send_some(session, 1)


if __name__ == "__main__":
    role, host, port, *rest = sys.argv[1:]
    if role == "victim":
        trio.run(_victim, Where(host, int(port)))
    else:
        os.nice(NICENESS)
        trio.run(_crowd, Where(host, int(port)), int(rest[0]), rest[1], rest[2:])
