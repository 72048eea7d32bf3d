"""The client's side: one connection to a server, and calls on it, of plain bytes.

Rules kept here:
- Nothing waits for ever on a server that is gone: a lost connection, a reset, a GOAWAY, a peer that speaks
  no HTTP/2 and a passed deadline each end every call they concern with an `RpcError`.
- A call that is left before its end is cancelled on the server too.
- Errors of the caller's own code pass through as they are, not wrapped in a group.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from transport.connection import Connection, ResetCode, StreamGone
from transport.driver import Driver
from transport.events import Event, GoAway, ResponseEnded, ResponseStarted, SettingsReceived, StreamReset
from transport.limits import Limits
from transport.rpc_status import Metadata, RpcError, Status, StatusCode
from transport.stream import Stream

__all__ = ["Channel", "ClientCall", "channel_over", "open_channel"]

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
        self._scope = scope  # carries the deadline, which an ended call no longer has
        self._metadata: Metadata | None = None
        self._status: Status | None = None
        self._output_ended = False

    def half_close(self) -> None:
        """Say that no more messages will be sent. No error when the call is over already."""
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

    async def initial_metadata(self) -> Metadata:
        """What the server sent before its first message; waits for it."""
        while self._metadata is None:
            await self._arrivals_or_end()
        return self._metadata

    async def status(self) -> Status:
        """How the call ended; waits for it and does not raise. Unread messages stay to be read."""
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

    def end(self, status: Status, *, keep_unread: bool = True) -> None:
        """The call is over; the first word counts."""
        if self._status is not None:
            return
        self._status = status
        self._metadata = self._metadata or ()
        self._scope.deadline = math.inf
        if status.code is StatusCode.OK:
            self.end_input()
            self._window.unpark_all()
        else:
            self.break_off(RpcError.of(status), keep_unread=keep_unread)

    def cancel(self) -> None:
        """Tell the server to stop, unless the call is over."""
        self._connection.reset(self.stream_id, ResetCode.CANCEL)
        self._driver.wake_writer()
        self.end(Status(StatusCode.CANCELLED, "the call was left"), keep_unread=False)


class Channel:
    """An open connection; made by `open_channel`."""

    def __init__(self, transport: trio.abc.Stream, authority: str, limits: Limits) -> None:
        self._authority = authority
        self._calls: dict[int, ClientCall] = {}
        self._slots = trio.lowlevel.ParkingLot()
        self._going = ""  # why no new call can start
        self._connection = Connection(client_side=True, limits=limits)
        self.driver = Driver(transport, self._connection, limits, on_event=self._on_event, on_end=self._on_end)

    @asynccontextmanager
    async def call(
        self, path: str, metadata: Metadata = (), timeout_s: float | None = None
    ) -> AsyncIterator[ClientCall]:
        """Make a call; leaving the block before the call's end cancels it on the server.

        The body is cancelled when the deadline passes.

        Raises:
          RpcError: the deadline has passed, or the call could not start.
          BadHeader: `metadata` cannot be sent.
        """
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        with trio.CancelScope(deadline=deadline) as scope:
            call = await self._start(path, metadata, scope)
            try:
                yield call
            finally:
                call.cancel()
                del self._calls[call.stream_id], self.driver.streams[call.stream_id]
                self._slots.unpark()
        if scope.cancelled_caught:
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    async def _start(self, path: str, metadata: Metadata, scope: trio.CancelScope) -> ClientCall:
        """Open a stream as soon as the server takes one more."""
        while not self._going and not self._connection.can_start_request:
            await self._slots.park()
        if self._going:
            raise RpcError(StatusCode.UNAVAILABLE, self._going)
        left_s = scope.deadline - trio.current_time()
        timeout_s = None if math.isinf(left_s) else left_s
        stream_id = self._connection.start_request(
            path, authority=self._authority, metadata=metadata, timeout_s=timeout_s
        )
        call = ClientCall(self.driver, stream_id, scope)
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
                    call.end(status)
                    self._slots.unpark()
            case StreamReset(stream_id, code):
                if call := self._calls.get(stream_id):
                    reason = f"the server reset the call, HTTP/2 error {code}"
                    status = Status(_RESET_CODES.get(code, StatusCode.INTERNAL), reason)
                    call.end(status, keep_unread=False)
            case GoAway():
                self._go_away(event)
            case SettingsReceived():
                self._slots.unpark_all()

    def _go_away(self, event: GoAway) -> None:
        """No new calls; those the server did not look at are over, the others go on."""
        self._going = event.reason or "the server is going away"
        for call in self._calls.values():
            if call.stream_id > event.last_stream_id:
                self._connection.reset(call.stream_id)
                call.end(Status(StatusCode.UNAVAILABLE, self._going), keep_unread=False)
        self._slots.unpark_all()

    def _on_end(self, reason: str) -> None:
        self._going = self._going or reason
        for call in self._calls.values():
            call.end(Status(StatusCode.UNAVAILABLE, self._going), keep_unread=False)
        self._slots.unpark_all()


@asynccontextmanager
async def open_channel(
    host: str, port: int, *, connect_timeout: float = 10.0, limits: Limits | None = None
) -> AsyncIterator[Channel]:
    """Connect, and wait until the peer has shown that it speaks HTTP/2.

    Raises:
      RpcError: UNAVAILABLE, nobody there or no HTTP/2 within `connect_timeout` seconds.
    """
    transport = await _connect(host, port, connect_timeout)
    limits = limits or Limits(preface_timeout_s=connect_timeout)
    async with channel_over(transport, f"{host}:{port}", limits=limits) as channel:
        yield channel


@asynccontextmanager
async def channel_over(
    transport: trio.abc.Stream, authority: str, *, limits: Limits | None = None
) -> AsyncIterator[Channel]:
    """Run a channel over any open stream, which it owns from here on; raises as `open_channel` does."""
    channel = Channel(transport, authority, limits or Limits())
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.driver.run)
        try:
            await channel.driver.ready.wait()
            if channel.driver.end_reason is not None:
                raise RpcError(StatusCode.UNAVAILABLE, channel.driver.end_reason)
            yield channel
        except Exception as error:  # carried past the nursery, which would wrap it in a group
            failure = error
        channel.driver.finish("the channel was closed")
    if failure is not None:
        raise failure


async def _connect(host: str, port: int, timeout_s: float) -> trio.SocketStream:
    try:
        with trio.fail_after(timeout_s):
            return await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        reason = f"cannot connect to {host}:{port}: {error or 'too slow'}"
        raise RpcError(StatusCode.UNAVAILABLE, reason) from None
