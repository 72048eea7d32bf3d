"""The client's side of gRPC: one connection to a server, and calls on it whose messages are plain bytes.

Rules kept here:
- No call waits for ever on a dead server. A lost connection, a reset, a GOAWAY, a peer that is silent or does not speak
  HTTP/2, a window that stays shut and a passed deadline each end the calls concerned, with the `RpcError` of a status.
- A call that its block leaves early is cancelled on the server too.
- The token is sent with every call, and never appears in a message, log or repr.
- Errors of the caller's own code pass through as they are, not wrapped in a group.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import evolve

from engine.contexts import acyclic, unwrapped_nursery
from transport.client.dial import Target, dial
from transport.client.errors import error_of, rpc_error
from transport.grpc.addresses import TcpAddress
from transport.grpc.connection import Connection, ResetCode, StreamGone
from transport.grpc.driver import Driver
from transport.grpc.events import Event, GoAway, ResponseEnded, ResponseStarted, SettingsReceived, StreamReset
from transport.grpc.framing import FramingError
from transport.grpc.limits import Limits
from transport.grpc.status import Metadata, Status, StatusCode
from transport.grpc.stream import Stream
from transport.grpc.tls import ClientTls

__all__ = ["Channel", "ClientCall", "channel_over", "channel_to", "open_channel"]

_RESET_CODES = {
    int(ResetCode.REFUSED_STREAM): StatusCode.UNAVAILABLE,
    int(ResetCode.CANCEL): StatusCode.CANCELLED,
    int(ResetCode.ENHANCE_YOUR_CALM): StatusCode.RESOURCE_EXHAUSTED,
    int(ResetCode.INADEQUATE_SECURITY): StatusCode.PERMISSION_DENIED,
}


class ClientCall(Stream):
    """One call, as its client sees it; made by `Channel.call`."""

    def __init__(self, driver: Driver, stream_id: int, scope: trio.CancelScope) -> None:
        super().__init__(driver, stream_id)
        self._scope = scope  # its deadline is the call's; an ended call has none
        self._metadata: Metadata | None = None
        self._status: Status | None = None
        self._output_ended = False

    def half_close(self) -> None:
        """Tell the server that no more messages follow; do nothing if the call is over."""
        if self._output_ended or self.input_ended:
            return
        self._check_sendable()
        self._output_ended = True
        try:
            self._connection.end_request(self.stream_id)
        except StreamGone:
            return
        self._driver.wake_writer()

    async def send(self, message: bytes) -> None:
        if self._output_ended or self._status is not None:
            self._check_open()
            raise trio.ClosedResourceError("this side of the call has ended")
        await super().send(message)

    def _stalled(self) -> Exception:
        reason = f"the server has taken nothing for {self._driver.stall_timeout_s:g} s"
        self._give_up(Status(StatusCode.UNAVAILABLE, reason))
        return rpc_error(StatusCode.UNAVAILABLE, reason)

    def _undecodable(self, error: FramingError) -> Exception:
        return rpc_error(error.code, str(error))

    async def initial_metadata(self) -> Metadata:
        """Wait for the server's initial metadata and return it."""
        while self._metadata is None:
            await self._arrivals_or_end()
        return self._metadata

    async def status(self) -> Status:
        """Wait until the call ends and return its status, also a failed one; unread messages stay to be read."""
        while self._status is None:
            await self._arrivals_or_end()
        return self._status

    async def _arrivals_or_end(self) -> None:
        self._check_open()
        await self._arrivals.park()

    # ---- what the channel calls

    def start(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._arrivals.unpark_all()

    def note_end(self, status: Status, *, keep_unread: bool = True) -> None:
        """Note the end of the call; only the first status counts."""
        if self._status is not None:
            return
        self._status = status
        self._metadata = self._metadata or ()
        self._scope.deadline = math.inf
        if status.code is StatusCode.OK:
            self.end_input()
            self._window.unpark_all()
        else:
            self.fail(error_of(status), keep_unread=keep_unread)

    def cancel(self, reason: str = "the caller left the call") -> None:
        """Reset the stream, so that the server stops, unless the call is over."""
        self._give_up(Status(StatusCode.CANCELLED, reason))

    def _give_up(self, status: Status) -> None:
        self._connection.reset(self.stream_id, ResetCode.CANCEL)
        self._driver.wake_writer()
        self.note_end(status, keep_unread=False)


class Channel:
    """An open connection; made by `channel_to`.

    Args:
      transport: Connected stream; the channel owns and closes it.
      authority: Name of the server, sent as `:authority`.
      limits: Memory and time limits of the connection.
      scheme: "http", or "https" over TLS.
      token: Token sent with every call; "" for none.
    """

    def __init__(
        self, transport: trio.abc.Stream, authority: str, limits: Limits, *, scheme: str = "http", token: str = ""
    ) -> None:
        self._authority = authority
        self._scheme = scheme
        self._credentials: Metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._calls: dict[int, ClientCall] = {}
        self._slots = trio.lowlevel.ParkingLot()
        self._left = trio.lowlevel.ParkingLot()
        self._unavailable_reason = ""
        self._connection = Connection(client_side=True, limits=limits)
        self.driver = Driver(
            transport,
            self._connection,
            limits,
            on_event=self._on_event,
            on_end=self._on_end,
            stall_timeout_s=limits.write_timeout_s,
        )

    @property
    def unavailable_reason(self) -> str:
        """Reason for which no new call can start: the server shuts down or the connection is lost; "" while one can."""
        return self._unavailable_reason

    async def wait_unused(self) -> None:
        """Wait until no call is open."""
        while self._calls:
            await self._left.park()

    @acyclic
    @asynccontextmanager
    async def call(
        self, path: str, metadata: Metadata = (), timeout_s: float | None = None, encoding: str | None = None
    ) -> AsyncIterator[ClientCall]:
        """Make a call; leaving the block before the call's end cancels it on the server.

        The block is cancelled when the deadline passes.

        Args:
          path: Method, as `/package.Service/Method`.
          metadata: Custom metadata, sent after the credentials.
          timeout_s: Time limit of the whole call; None is no limit.
          encoding: Compression of messages, "gzip" or "deflate"; a message that would not shrink is sent uncompressed.

        Raises:
          RpcError: the deadline has passed, or the call could not start.
          BadHeader: `metadata` cannot be sent.
        """
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        with trio.CancelScope(deadline=deadline) as scope:
            call = await self._start(path, metadata, scope, encoding)
            try:
                yield call
            finally:
                call.cancel()
                del self._calls[call.stream_id], self.driver.streams[call.stream_id]
                self._slots.unpark()
                self._left.unpark_all()
        if scope.cancelled_caught:
            raise rpc_error(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    async def _start(self, path: str, metadata: Metadata, scope: trio.CancelScope, encoding: str | None) -> ClientCall:
        """Open a stream as soon as the server allows one more."""
        while not self._unavailable_reason and not self._connection.can_start_request:
            await self._slots.park()
        if self._unavailable_reason:
            raise rpc_error(StatusCode.UNAVAILABLE, self._unavailable_reason)
        left_s = scope.deadline - trio.current_time()
        stream_id = self._connection.start_request(
            path,
            authority=self._authority,
            scheme=self._scheme,
            metadata=self._credentials + metadata,
            timeout_s=None if math.isinf(left_s) else left_s,
            encoding=encoding,
        )
        call = ClientCall(self.driver, stream_id, scope)
        call.encoding = encoding
        self._calls[stream_id] = self.driver.streams[stream_id] = call
        self.driver.wake_writer()
        return call

    def _on_event(self, event: Event) -> None:
        match event:
            case ResponseStarted(stream_id, metadata):
                if call := self._calls.get(stream_id):
                    call.start(metadata)
            case ResponseEnded(stream_id, status):
                if call := self._calls.get(stream_id):
                    call.note_end(status)
                    self._slots.unpark()
            case StreamReset(stream_id, code):
                if call := self._calls.get(stream_id):
                    reason = f"the server reset the call, HTTP/2 error {code}"
                    status = Status(_RESET_CODES.get(code, StatusCode.INTERNAL), reason)
                    call.note_end(status, keep_unread=False)
            case GoAway():
                self._go_away(event)
            case SettingsReceived():
                self._slots.unpark_all()

    def _go_away(self, event: GoAway) -> None:
        """Start no more calls; end those that the server has not looked at; the others continue."""
        self._unavailable_reason = event.reason or "the server is going away"
        for call in self._calls.values():
            if call.stream_id > event.last_stream_id:
                self._connection.reset(call.stream_id)
                call.note_end(Status(StatusCode.UNAVAILABLE, self._unavailable_reason), keep_unread=False)
        self._slots.unpark_all()

    def _on_end(self, reason: str) -> None:
        self._unavailable_reason = self._unavailable_reason or reason
        for call in self._calls.values():
            call.note_end(Status(StatusCode.UNAVAILABLE, self._unavailable_reason), keep_unread=False)
        self._slots.unpark_all()


@acyclic
@asynccontextmanager
async def channel_to(
    target: Target,
    *,
    tls: ClientTls | None = None,
    token: str = "",
    connect_timeout_s: float = 10.0,
    limits: Limits | None = None,
) -> AsyncIterator[Channel]:
    """Connect to a server, and wait for its HTTP/2 SETTINGS.

    Args:
      target: Address of the server.
      tls: TLS of the connection; None for plain text.
      token: Token sent as `authorization: Bearer` with every call.
      connect_timeout_s: Time limit for connecting and the TLS handshake, and again for the server's SETTINGS.
      limits: Memory and time limits of the connection.

    Raises:
      Unavailable: no server answers in time, or it does not speak HTTP/2.
      BadTlsFiles: the TLS files cannot be used; raised before any connection is tried.
    """
    transport = await dial(target, tls, timeout_s=connect_timeout_s)
    authority = str(target) if isinstance(target, TcpAddress) else "localhost"
    if tls is not None and tls.server_name:
        authority = tls.server_name
    limits = evolve(limits or Limits(), preface_timeout_s=connect_timeout_s)
    async with channel_over(
        transport, authority, limits=limits, scheme="http" if tls is None else "https", token=token
    ) as channel:
        yield channel


@acyclic
@asynccontextmanager
async def open_channel(
    host: str, port: int, *, connect_timeout: float = 10.0, limits: Limits | None = None
) -> AsyncIterator[Channel]:
    """Open a channel as `channel_to` does, over TCP without TLS."""
    async with channel_to(TcpAddress(host, port), connect_timeout_s=connect_timeout, limits=limits) as channel:
        yield channel


@acyclic
@asynccontextmanager
async def channel_over(
    transport: trio.abc.Stream,
    authority: str,
    *,
    limits: Limits | None = None,
    scheme: str = "http",
    token: str = "",
) -> AsyncIterator[Channel]:
    """Run a channel over any open stream, which it then owns.

    Raises:
      Unavailable: the peer sends no HTTP/2 SETTINGS in time.
    """
    channel = Channel(transport, authority, limits or Limits(), scheme=scheme, token=token)
    async with unwrapped_nursery() as nursery:
        nursery.start_soon(channel.driver.run)
        try:
            await channel.driver.ready.wait()
            if channel.driver.end_reason is not None:
                raise rpc_error(StatusCode.UNAVAILABLE, channel.unavailable_reason)
            yield channel
        finally:
            channel.driver.close("the channel was closed")
