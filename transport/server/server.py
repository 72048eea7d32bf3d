"""A server: it listens, accepts connections, and ends in order.

Rules kept here:
- Nested nurseries spell the order of shutdown: first the listeners close, then every connection ends with its calls.
- Connections are counted and limited; what is over a limit is told so at once, not queued.
- One connection's failure, even a fault of ours, ends that connection alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import trio

from engine.errors import AtCapacity, EngineError
from transport.grpc.addresses import Address, TcpAddress
from transport.grpc.connection import Connection
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.tls import HandshakeFailed, Tls
from transport.server.accept import accept_for_ever
from transport.server.access import AccessControl, ShuttingDown
from transport.server.call import Handler
from transport.server.connection import LAST_WORDS_S, SHUTTING_DOWN, ServerConnection, ServerContext
from transport.server.listeners import AddressInUse, AddressUnusable, Listener, open_listeners, peer_of

__all__ = ["AddressInUse", "AddressUnusable", "Server", "serve"]

_log = logging.getLogger(f"headrace.{__name__}")

_CLOSING_S = 5.0
_ANTEROOM = 64


class Server:
    """What is running; `serve` hands it to whoever started it.

    Attributes:
      listeners: Open ones.
      port: The first listener's.
      access: Who may call.
      connections: Being served, or told why they are not.
      budget: Of what large messages hold beyond their windows, on all connections.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        limits: Limits,
        *,
        debug_errors: bool,
        access: AccessControl | None = None,
        tls: Tls | None = None,
        on_drain: Callable[[], None] | None = None,
    ) -> None:
        self.access = access or AccessControl()
        self.budget = ByteBudget(limits.large_messages_bytes)
        self.listeners: list[Listener] = []
        self.port = 0
        self.connections: set[ServerConnection] = set()
        self._context = ServerContext(handlers, limits, self.access, self.budget, debug_errors)
        self._limits = limits
        self._tls = tls
        self._on_drain = on_drain
        self._held = 0  # connections, with those that are still shaking hands
        self._waiting = 0  # those that are only told that there is no room
        self._stop = trio.Event()
        self._drain_timeout_s = math.inf
        self._closing_s = _CLOSING_S

    def drain(self, timeout_s: float = math.inf, *, closing_s: float = _CLOSING_S) -> None:
        """Accept nothing more, and have `serve` return when all calls are over.

        Args:
          timeout_s: What calls get to end in by themselves.
          closing_s: What sessions get then, to give their tails when they are closed from here.
        """
        self._drain_timeout_s = min(self._drain_timeout_s, timeout_s)
        self._closing_s = closing_s
        if not self._stop.is_set():
            self.access.close()
            if self._on_drain is not None:
                self._on_drain()
        self._stop.set()

    @property
    def open_calls(self) -> int:
        """Calls running now, on all connections."""
        return sum(len(connection.driver.streams) for connection in self.connections)

    async def wait_draining(self) -> None:
        """Wait until `drain` is called."""
        await self._stop.wait()

    async def run(self, listeners: list[Listener], task_status: trio.TaskStatus[Server]) -> None:
        """Accept connections until `drain` is called, then close the listeners, then end the connections.

        Args:
          listeners: Open ones; closed here as soon as the drain begins.
          task_status: Receives this server once connections are accepted.
        """
        self.listeners, self.port = listeners, listeners[0].port
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(
                        accept_for_ever, listener.accepting, self._accept_socket, self.turn_away, connections
                    )
                task_status.started(self)
                await self.wait_draining()
                accepting.cancel_scope.cancel()
            for listener in listeners:  # at once, so that a successor can listen there
                await listener.aclose()
            await self.close_connections()
            connections.cancel_scope.cancel()

    async def _accept_socket(self, transport: trio.SocketStream) -> None:
        await self.accept(transport, peer_of(transport))

    async def accept(self, transport: trio.abc.Stream, peer: str = "") -> None:
        """Serve one connection to its end; any trio stream will do. Does not raise but Cancelled."""
        try:
            if self._held >= self._limits.max_connections:
                await self._accept_in_anteroom(transport, peer)
            else:
                await self._accept(transport, peer)
        except HandshakeFailed as error:
            _log.info("connection from %s: %s", peer, error)
        except Exception:  # a fault of ours: the other connections must not pay for it
            _log.exception("connection from %s ended by a fault", peer)

    async def _accept(self, transport: trio.abc.Stream, peer: str) -> None:
        self._held += 1
        try:
            connection = ServerConnection(self._context, await self._secured(transport), peer)
            if self._stop.is_set():
                await self._tell(connection, ShuttingDown(SHUTTING_DOWN))
            else:
                await self._run(connection)
        finally:
            self._held -= 1

    async def _accept_in_anteroom(self, transport: trio.abc.Stream, peer: str) -> None:
        """Answer the first call of a connection that there is no room for, then close; health is answered too."""
        if self._waiting >= _ANTEROOM:
            await self.turn_away(transport)
            return
        self._waiting += 1
        try:
            error = AtCapacity(f"the server has {self._limits.max_connections} connections, as many as it takes")
            await self._tell(ServerConnection(self._context, await self._secured(transport), peer), error)
        finally:
            self._waiting -= 1

    async def _secured(self, transport: trio.abc.Stream) -> trio.abc.Stream:
        return transport if self._tls is None else await self._tls.shake_hands(transport)

    async def _run(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    async def _tell(self, connection: ServerConnection, refusal: EngineError) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.close_after_refusal, refusal)
            await self._run(connection)
            nursery.cancel_scope.cancel()

    async def turn_away(self, transport: trio.abc.Stream) -> None:
        """Close a connection with no more than a word, which cannot be said where there is TLS."""
        if self._tls is None:
            connection = Connection(client_side=False, limits=self._limits)
            connection.initiate_connection()
            connection.finish_shutdown(0, "too many connections")
            with trio.move_on_after(LAST_WORDS_S), suppress(trio.BrokenResourceError):
                await transport.send_all(connection.data_to_send())
        await trio.aclose_forcefully(transport)

    async def close_connections(self) -> None:
        """The orderly end: GOAWAY, time for the calls, a close for sessions, UNAVAILABLE for what needs longer."""
        async with trio.open_nursery() as nursery:
            for connection in self.connections:
                nursery.start_soon(connection.close, self._drain_timeout_s, self._closing_s)


async def serve(
    handlers: Mapping[str, Handler],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listen: Sequence[Address] = (),
    reuse_port: bool = False,
    limits: Limits | None = None,
    access: AccessControl | None = None,
    tls: Tls | None = None,
    on_drain: Callable[[], None] | None = None,
    debug_errors: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen and serve until `Server.drain` or cancellation.

    Args:
      handlers: By path, `/package.Service/Method`; read at every call, so it may change.
      host: Where to listen; every address it resolves to.
      port: 0 picks a free one, told by `Server.port`.
      listen: Where to listen, in place of `host` and `port`.
      reuse_port: Share TCP ports with other processes that do so too.
      limits: What connections may hold and how long they may wait.
      access: Who may call; everybody, when not given.
      tls: What connections are secured with, if they are.
      on_drain: Called when `Server.drain` first is.
      debug_errors: Send what an unexpected exception says to the client.
      task_status: Given the `Server` once it listens.
    Raises:
      AddressInUse, AddressUnusable.
    """
    limits = limits or Limits()
    server = Server(handlers, limits, debug_errors=debug_errors, access=access, tls=tls, on_drain=on_drain)
    async with open_listeners(listen or [TcpAddress(host, port)], reuse_port=reuse_port) as listeners:
        await server.run(listeners, task_status)
