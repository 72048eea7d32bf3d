"""The trio loop around a sans-io connection, the same for server and client.

Rules kept here:
- One task reads, one writes, one watches the timeouts; a message costs no task, cancel scope or lock.
- What is sent during one pass of the scheduler leaves together. On a plain socket, what is sent during a turn of
  reading leaves at the end of that turn, without waking the writer.
- One turn handles at most `read_bytes` and `turn_frames` of a peer and, on a server, the start of one call; then every
  other task runs. Peers with more queued than that take turns: one of them proceeds per scheduler pass, however many
  there are.
- A server's turn has two phases. `receive_data` stops after a call's headers (`Http2.pauses_after_headers`), so that
  `on_event` can admit or refuse the call before its body is handled. `finish_turn` then handles the frames up to the
  next call, and `on_turn` starts the new call, unless it has already ended by then.
- Unsent bytes are bounded: senders wait above `high_water_bytes`, the reader above four times that (no sender waits
  before answers to pings and resets), and a connection whose peer accepts nothing is ended.
- At the end, every stream is notified, then the socket is closed. The close waits until our last frames had time to
  reach a peer that is still sending, because closing a socket with unread bytes resets it: what was sent may be lost.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter

import trio

from transport.grpc.connection import Connection
from transport.grpc.events import (
    ConnectionFailed,
    Event,
    GoAway,
    HalfClosed,
    MessageReceived,
    SettingsAcknowledged,
    SettingsReceived,
    WindowOpened,
)
from transport.grpc.keepalive import Close, ConnectionTimers, Ping
from transport.grpc.limits import Limits
from transport.grpc.stream import Stream

__all__ = ["Driver"]

_log = logging.getLogger(f"headrace.{__name__}")

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_WRITE_BYTES = 64 * 1024
_FLUSH_TIMEOUT_S = 1.0  # for the last frames to a peer that may be gone


class Driver:
    """Runs one connection over any trio stream.

    Args:
      transport: The byte stream; the driver owns and closes it.
      connection: A connection that has not been initiated.
      limits: Sizes and timeouts.
      on_event: Called with every event that server and client handle differently.
      on_end: Called once, with the reason, when nothing more can be received or sent.
      on_turn: Called after each turn in which a call began.
      turnstile: Fair lock shared by all connections that take turns.
      stall_timeout_s: Longest wait of a sender for its stream's window.

    Attributes:
      ready: Set when the peer has sent its SETTINGS, or never will.
      end_reason: Reason why nothing more can be received or sent; None while the connection works.
      closed: Set when the socket is closed; wait for it before you cancel `run`, or the last frames are lost.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        connection: Connection,
        limits: Limits,
        *,
        on_event: Callable[[Event], None],
        on_end: Callable[[str], None],
        on_turn: Callable[[], None] | None = None,
        turnstile: trio.Lock | None = None,
        stall_timeout_s: float = math.inf,
    ) -> None:
        self.connection = connection
        self.streams: dict[int, Stream] = {}
        self.window_waiters: set[Stream] = set()
        self.stall_timeout_s = stall_timeout_s or math.inf
        self.ready = trio.Event()
        self.end_reason: str | None = None
        self.closed = trio.Event()
        self._transport = transport
        self._limits = limits
        self._on_event = on_event
        self._on_end = on_end
        self._on_turn = on_turn
        self._turnstile = turnstile or trio.Lock()
        self._timers: ConnectionTimers | None = None
        self._peer_gone = False
        self._socket = _plain_socket(transport)
        self._read_scope = trio.CancelScope()
        self._set_up_writing()

    def _set_up_writing(self) -> None:
        """Create the write side's state.

        Bytes leave in one of two ways. `_in_turn` is true while a turn is handled; `wake_writer` does nothing then,
        because the turn ends with `_send_at_once`. What that write leaves over becomes `_leftover`, which the writer
        sends before anything newer. `_outgoing_bytes` counts the bytes taken from the connection's buffer that the
        socket has not accepted yet: the length of `_leftover`, or the rest of the writer's current `_write`.
        """
        self._in_turn = False
        self._leftover = b""
        self._outgoing_bytes = 0
        self._write_timeout_s = self._limits.write_timeout_s or math.inf
        self._writer = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._write_scope = trio.CancelScope()

    async def run(self) -> None:
        """Run until either side ends the connection; a lost peer is not an error."""
        try:
            self.connection.initiate_connection()
            self._timers = ConnectionTimers(
                self._limits, client_side=self.connection.client_side, at=trio.current_time()
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_until_end)
                nursery.start_soon(self._keep_time, self._timers)
                await self._write_until_end()
                nursery.cancel_scope.cancel()
            if not self._peer_gone and (self.connection.failed or not self.connection.client_side):
                await self._linger()
        finally:
            self.close("the connection was closed")
            self.connection.close()
            try:
                await trio.aclose_forcefully(self._transport)
            finally:  # it raises if this task has been cancelled
                self.closed.set()
                self._on_event = self._on_end = _ignore  # the listeners hold the driver: break the cycle
                self._on_turn = None

    def close(self, reason: str) -> None:
        """End the connection: stop reading, and allow unsent bytes `_FLUSH_TIMEOUT_S` to leave."""
        if self.end_reason is not None:
            return
        self.end_reason = reason
        self.ready.set()
        self._on_end(reason)
        self._read_scope.cancel()
        self._write_scope.deadline = min(self._write_scope.deadline, trio.current_time() + _FLUSH_TIMEOUT_S)
        self._room.unpark_all()
        self.wake_writer()

    # ---- reading

    async def _read_until_end(self) -> None:
        with self._read_scope:
            try:
                await self._read()
                reason = "the peer closed the connection"
            except _GONE as error:
                reason = f"the connection broke: {error.__cause__ or error}"
            self._peer_gone = True
            self.close(reason)

    async def _read(self) -> None:
        connection, high_water = self.connection, 4 * self._limits.high_water_bytes
        while data := await self._receive():
            received_at = perf_counter()
            crowded = self._take(data, received_at)
            while crowded and self.end_reason is None:
                await self.give_way()
                crowded = connection.has_more and self._take(b"", received_at)
            while self.unsent_bytes > high_water and self.end_reason is None:
                await self._room.park()

    async def give_way(self) -> None:
        """Wait behind all other callers with more work queued; one of them proceeds per scheduler pass."""
        async with self._turnstile:  # fair
            pass

    async def _receive(self) -> bytes:
        """Return received bytes, b"" at the end.

        A plain socket is read only once it is readable; trio's `receive_some` would try before it waits.
        """
        if self._socket is None:
            return bytes(await self._transport.receive_some(self._limits.read_bytes))
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), self._limits.read_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    def _take(self, data: bytes, received_at: float) -> bool:
        """Run one turn; return True if other connections should run next: frames are left, or a call began."""
        self._in_turn = True
        try:
            crowded = self._handle_turn(data, received_at)
        finally:
            self._in_turn = False
        if self.end_reason is not None or (self.connection.unsent_bytes and not self._send_at_once()):
            self.wake_writer()
        return crowded

    def _handle_turn(self, data: bytes, received_at: float) -> bool:
        assert self._timers is not None
        at, connection = trio.current_time(), self.connection
        if data:
            self._timers.last_bytes_at = at
        calls_seen = connection.calls_seen
        self._handle_all(connection.receive_data(data, at, received_at, self._limits.turn_frames))
        began = connection.calls_seen != calls_seen
        if began and self._on_turn is not None:
            try:
                self._handle_all(connection.finish_turn())
            finally:
                self._on_turn()
        return began or connection.has_more

    def _handle_all(self, found: Sequence[Event]) -> None:
        for event in found:
            if type(event) is MessageReceived:
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.deliver(event)
            else:
                self._handle(event)

    async def _linger(self) -> None:
        """Read and discard for a while, so that a peer that is still sending receives our last frames."""
        with trio.move_on_after(self._limits.linger_timeout_s), suppress(*_GONE):
            if isinstance(self._transport, trio.abc.HalfCloseableStream):
                await self._transport.send_eof()
            while await self._transport.receive_some(self._limits.read_bytes):
                pass

    # ---- time

    async def _keep_time(self, timers: ConnectionTimers) -> None:
        while self.end_reason is None:
            at, connection = trio.current_time(), self.connection
            since, calls = connection.incomplete_since, connection.open_streams
            match timers.look(at, calls=calls, calls_seen=connection.calls_seen, frame_since=since):
                case Ping():
                    connection.ping()
                    self.wake_writer()
                case Close(code, reason):
                    connection.fail(code, reason)
                    self.close(reason)
            for event in connection.overdue(at):
                self._handle(event)
                self.wake_writer()
            await trio.sleep_until(timers.next_look(at, calls=connection.open_streams, frame_since=since))

    def _handle(self, event: Event) -> None:
        match event:
            case WindowOpened(0):
                for waiting in self.window_waiters:
                    waiting.open_window()
            case WindowOpened(stream_id):
                if stream := self.streams.get(stream_id):
                    stream.open_window()
            case HalfClosed(stream_id):
                if stream := self.streams.get(stream_id):
                    stream.end_input()
            case ConnectionFailed(reason):
                _log.info("connection ended: %s", reason)
                self.close(f"the peer broke HTTP/2: {reason}")
            case SettingsAcknowledged():
                assert self._timers is not None
                self._timers.acknowledged = True
            case _:
                self._on_event(event)
                if type(event) is SettingsReceived:
                    self._note_settings()
                elif type(event) is GoAway and event.code and not self.connection.client_side:
                    self.close(f"the peer ended the connection with error {event.code}")

    def _note_settings(self) -> None:
        assert self._timers is not None
        if self._timers.settings_at is None:
            self._timers.settings_at = trio.current_time()
        self.ready.set()

    # ---- writing

    @property
    def unsent_bytes(self) -> int:
        """Number of bytes to be sent that the socket has not accepted yet."""
        return self.connection.unsent_bytes + self._outgoing_bytes

    @property
    def has_room(self) -> bool:
        """True if a sender may continue without waiting."""
        return self.unsent_bytes < self._limits.high_water_bytes

    async def wait_room(self) -> None:
        """Wait until `has_room` is true or the connection has ended."""
        while not self.has_room and self.end_reason is None:
            await self._room.park()

    def wake_writer(self) -> None:
        """Have pending bytes sent: at the end of the turn under way, or else in the next scheduler pass."""
        if not self._in_turn and self._writer:
            self._writer.unpark_all()

    def _send_at_once(self) -> bool:
        """Send without waking the writer; return False if bytes are left for it.

        Nothing is sent if the writer is not parked, because its bytes come first.
        """
        if self._socket is None or not self._writer or self.end_reason is not None:
            return False
        self.handle_late()
        data = self.connection.data_to_send()
        try:
            sent = os.write(self._socket.fileno(), data)
        except OSError:  # the socket is full or broken; the writer finds out which
            sent = 0
        self._leftover = data[sent:]
        self._outgoing_bytes = len(self._leftover)
        return not self._leftover

    async def _write_until_end(self) -> None:
        with self._write_scope as scope:
            try:
                while True:
                    self.handle_late()
                    if data := self._leftover or self.connection.data_to_send():
                        self._leftover = b""
                        await self._write(data)
                    elif self.end_reason is None:
                        await self._writer.park()
                    else:
                        break
            except _GONE as error:
                self._peer_gone = True
                self.close(f"the connection broke: {error.__cause__ or error}")
        if scope.cancelled_caught:
            self._peer_gone = True
            self.close(f"the peer accepted nothing for {self._write_timeout_s:g} s")

    def handle_late(self) -> None:
        """Handle the events that taking messages has caused."""
        for event in self.connection.late_events():
            self._handle(event)

    async def _write(self, data: bytes) -> None:
        self._outgoing_bytes = len(data)
        for piece in _pieces(data):
            if self.end_reason is None:
                self._write_scope.deadline = trio.current_time() + self._write_timeout_s
            await self._transport.send_all(piece)
            self._outgoing_bytes -= len(piece)
            if self._room and self.has_room:
                self._room.unpark_all()
        if self.end_reason is None:
            self._write_scope.deadline = math.inf


def _ignore(*args: object) -> None:
    """Do nothing. Replaces the callbacks at the end, so that driver and listener are freed without a GC pass."""


def _plain_socket(transport: trio.abc.Stream) -> trio.socket.SocketType | None:
    """Return the socket that can be read and written directly; None over TLS and on Windows."""
    return transport.socket if isinstance(transport, trio.SocketStream) and sys.platform != "win32" else None


def _pieces(data: bytes) -> Sequence[bytes | memoryview]:
    """Cut bytes into parts that a slow peer can accept within the write timeout."""
    if len(data) <= _WRITE_BYTES:
        return (data,)
    view = memoryview(data)
    return [view[start : start + _WRITE_BYTES] for start in range(0, len(data), _WRITE_BYTES)]
