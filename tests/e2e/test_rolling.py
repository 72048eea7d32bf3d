"""Servers are replaced one after another, while clients stream: every chunk is accounted for."""

from __future__ import annotations

import contextlib
import signal
from functools import partial

import attrs
import numpy as np
import trio

from engine.manifest import Manifest, NodeSpec
from engine.messages import Chunk, Result, SessionMetrics
from nodes.contract import Audio
from tests.e2e.clients import Foreign
from tests.e2e.raw_messages import chunk, final_metrics, ramp
from tests.e2e.servers import ServerProcess
from transport.client import RemoteError, RemoteSession, RpcError
from transport.grpc.status import StatusCode
from transport.reconnect import Backoff, reconnecting

MANIFEST = Manifest("v1", (NodeSpec("n", "PassThrough"),))
CLIENTS = 4
RESTARTS = 2


@attrs.define
class Listener:
    """A client that streams chunks until `stop`, over as many sessions as that takes.

    Attributes:
      done: Number of results for each chunk.
      sessions: Number of sessions.
    """

    address: str
    stop: trio.Event
    progress: trio.Condition
    done: dict[int, int] = attrs.field(factory=dict)
    sent: int = 0
    sessions: int = 0
    broken: list[str] = attrs.field(factory=list)

    async def run(self) -> None:
        async with reconnecting(self.address, backoff=Backoff(attempts=100, first_s=0.01, most_s=0.1)) as service:
            while not (self.stop.is_set() and len(self.done) == self.sent):
                with contextlib.suppress(RpcError, RemoteError):  # the session has ended: open another
                    async with service.stream(MANIFEST) as session:
                        self.sessions += 1
                        await self._use(session)

    async def _use(self, session: RemoteSession) -> None:
        """Send the chunks not done yet, then new ones; a session's numbers begin at the first that it sees."""
        results = []
        metrics: SessionMetrics | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, session)
                while (event := await session.receive()) is not None:
                    if isinstance(event, Result) and not event.flush:
                        results.append(event.sequence)
                        await self._note(event.sequence)
                    elif isinstance(event, SessionMetrics) and event.final:
                        metrics = event
                nursery.cancel_scope.cancel()
        except* (RpcError, RemoteError) as group:
            for error in group.exceptions:
                if getattr(error, "code", None) is not StatusCode.UNAVAILABLE:
                    self.broken.append(repr(error))
        if metrics is None:
            self.broken.append("a session ended without its account")
        elif metrics.delivered != len(results) or metrics.cancelled or metrics.dropped:
            self.broken.append(f"{metrics}, {len(results)} results")

    async def _send(self, session: RemoteSession) -> None:
        sequence = min((n for n in range(self.sent) if n not in self.done), default=self.sent)
        while not (self.stop.is_set() and sequence == self.sent):
            self.sent = max(self.sent, sequence + 1)
            await session.send(Chunk(Audio(np.full((160, 1), sequence % 1000, np.int16), 16_000), sequence))
            sequence += 1
            while sequence - len(self.done) > 16 and not self.stop.is_set():
                async with self.progress:
                    await self.progress.wait()
        await session.close()

    async def _note(self, sequence: int | None) -> None:
        assert sequence is not None
        self.done[sequence] = self.done.get(sequence, 0) + 1
        async with self.progress:
            self.progress.notify_all()


async def test_a_rolling_restart_loses_nothing() -> None:
    options = ("--reuse-port", "--drain-timeout", "0.2", "--watchdog-ms", "0")
    with trio.fail_after(300):
        server = await trio.to_thread.run_sync(partial(ServerProcess, "--listen", "127.0.0.1:0", *options))
        clients = [Listener(server.address, trio.Event(), trio.Condition()) for _ in range(CLIENTS)]
        try:
            async with trio.open_nursery() as nursery:
                for each in clients:
                    nursery.start_soon(each.run)
                for _ in range(RESTARTS):
                    await moved_on(clients)
                    successor = await trio.to_thread.run_sync(
                        partial(ServerProcess, "--listen", server.address, *options)
                    )
                    code, log = await trio.to_thread.run_sync(server.stop)
                    assert (code, log) == (0, "")
                    server = successor
                await moved_on(clients)
                for each in clients:
                    each.stop.set()
                    async with each.progress:
                        each.progress.notify_all()
        finally:
            await trio.to_thread.run_sync(server.stop)
    for each in clients:
        assert not each.broken
        assert sorted(each.done) == list(range(each.sent))
        assert set(each.done.values()) == {1}  # none twice: accepted chunks are delivered before the session closes
        assert each.sessions > 1


def test_a_client_of_another_make_goes_over_to_the_successor() -> None:
    """Its open session continues on the old server; the successor answers its new calls."""
    options = ("--reuse-port", "--drain-timeout", "60")
    with (
        ServerProcess("--listen", "127.0.0.1:0", *options, log_level="INFO") as old,
        Foreign(old.address) as foreign,
        foreign.session() as talk,
        ServerProcess("--listen", old.address, *options),
    ):
        old.process.send_signal(signal.SIGTERM)
        old.read_log("draining 1 calls")
        codes = set()
        while "OK" not in codes:
            codes.add(foreign.unary("GetVersion", b"")[1].code)
            assert codes <= {"OK", "UNAVAILABLE"}
        assert final_metrics(talk.finish(chunk(ramp(0), 0))).delivered == 1
        assert old.process.wait(60) == 0


async def moved_on(clients: list[Listener]) -> None:
    """Wait until every client has 100 more chunks done."""
    for each in clients:
        goal = len(each.done) + 100
        while len(each.done) < goal:
            async with each.progress:
                await each.progress.wait()
