"""A server: listeners, connections, limits, and an orderly shutdown.

Rules kept here:
- Nested nurseries spell the order of shutdown: first the listeners close, then every connection ends with its calls.
- Connections are counted and limited. A connection over the limit is refused at once, not queued.
- A failure in one connection, even a bug of the server, ends that connection alone.
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
_MAX_REFUSING = 64  # connections over the limit that are kept open until their first call has been refused


class Server:
    """A running server; `serve` makes it and passes it to its caller by `task_status`.

    Attributes:
      listeners: Listeners of the server.
      port: Port of the first listener.
      access: Admission of calls.
      connections: Open connections, including those that are only being refused.
      budget: Bytes that large messages may hold beyond their windows, over all connections.
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
        self._held = 0  # connections within the limit, including those in their TLS handshake
        self._refusing = 0  # connections over the limit whose first call is being refused
        self._stop = trio.Event()
        self._drain_timeout_s = math.inf
        self._closing_s = _CLOSING_S

    def drain(self, timeout_s: float = math.inf, *, closing_s: float = _CLOSING_S) -> None:
        """Accept nothing more, and let `serve` return once all calls are over.

        Args:
          timeout_s: Time for calls to end by themselves.
          closing_s: Further time for sessions to send their tails, once the server has closed them.
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
        """Serve one connection, over any trio stream, to its end; raise nothing except Cancelled."""
        try:
            if self._held >= self._limits.max_connections:
                await self._accept_to_refuse(transport, peer)
            else:
                await self._accept(transport, peer)
        except HandshakeFailed as error:
            _log.info("connection from %s: %s", peer, error)
        except Exception:  # a bug of the server: the other connections must not suffer from it
            _log.exception("connection from %s ended by an internal error", peer)

    async def _accept(self, transport: trio.abc.Stream, peer: str) -> None:
        self._held += 1
        try:
            connection = ServerConnection(self._context, await self._secured(transport), peer)
            if self._stop.is_set():
                await self._run_to_refuse(connection, ShuttingDown(SHUTTING_DOWN))
            else:
                await self._run(connection)
        finally:
            self._held -= 1

    async def _accept_to_refuse(self, transport: trio.abc.Stream, peer: str) -> None:
        """Refuse the first call of a connection over the limit, then close it; health checks are answered."""
        if self._refusing >= _MAX_REFUSING:
            await self.turn_away(transport)
            return
        self._refusing += 1
        try:
            error = AtCapacity(f"the server has reached its limit of {self._limits.max_connections} connections")
            await self._run_to_refuse(ServerConnection(self._context, await self._secured(transport), peer), error)
        finally:
            self._refusing -= 1

    async def _secured(self, transport: trio.abc.Stream) -> trio.abc.Stream:
        return transport if self._tls is None else await self._tls.shake_hands(transport)

    async def _run(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    async def _run_to_refuse(self, connection: ServerConnection, refusal: EngineError) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.close_after_refusal, refusal)
            await self._run(connection)
            nursery.cancel_scope.cancel()

    async def turn_away(self, transport: trio.abc.Stream) -> None:
        """Send GOAWAY and close; over TLS, whose handshake has not happened yet, just close."""
        if self._tls is None:
            connection = Connection(client_side=False, limits=self._limits)
            connection.initiate_connection()
            connection.finish_shutdown(0, "too many connections")
            with trio.move_on_after(LAST_WORDS_S), suppress(trio.BrokenResourceError):
                await transport.send_all(connection.data_to_send())
        await trio.aclose_forcefully(transport)

    async def close_connections(self) -> None:
        """Drain all connections: GOAWAY, time for calls, a close for sessions, then UNAVAILABLE for the rest."""
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
      handlers: Handlers by path, `/package.Service/Method`; looked up at every call, so the mapping may change.
      host: Host to listen on, at every address that it resolves to.
      port: Port to listen on; 0 picks a free one, found in `Server.port`.
      listen: Addresses to listen on, instead of `host` and `port`.
      reuse_port: Share TCP ports with other processes that set this too.
      limits: Memory and time limits of connections.
      access: Admission of calls; None admits every caller.
      tls: TLS of the connections; None for plain text.
      on_drain: Called once, at the first call of `Server.drain`.
      debug_errors: Send the text of unexpected exceptions to clients.
      task_status: Receives the `Server` once it listens.

    Raises:
      AddressInUse: another process listens on one of the addresses.
      AddressUnusable: one of the addresses cannot be bound for another reason.
    """
    limits = limits or Limits()
    server = Server(handlers, limits, debug_errors=debug_errors, access=access, tls=tls, on_drain=on_drain)
    async with open_listeners(listen or [TcpAddress(host, port)], reuse_port=reuse_port) as listeners:
        await server.run(listeners, task_status)
