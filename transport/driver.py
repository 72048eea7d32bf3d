"""The trio loop around a sans-io connection, the same for server and client.

Rules kept here:
- One task reads and one writes; no task, scope or lock for a message.
- What is written during one turn of the scheduler goes out in one call of the socket.
- Unsent bytes are bounded: senders wait above `high_water_bytes`, the reader above four times that (answers
  to pings and resets are nobody's to hold back), and a peer that accepts nothing is cut.
- However the connection ends, every stream is told, then the socket is closed.
"""

import logging
import math
from collections.abc import Callable, Sequence
from time import perf_counter

import trio

from transport.connection import Connection
from transport.events import (
    ConnectionFailed,
    Event,
    HalfClosed,
    MessageReceived,
    SettingsReceived,
    WindowOpened,
)
from transport.limits import Limits
from transport.stream import Stream

__all__ = ["Driver"]

_log = logging.getLogger("headrace.transport.driver")

_READ_BYTES = 64 * 1024
_WRITE_BYTES = 64 * 1024
_FLUSH_TIMEOUT_S = 1.0  # for the last words to a peer that may be gone


class Driver:
    """Runs one connection over any trio stream.

    Args:
      transport: Owned from here on.
      connection: Not yet initiated.
      on_event: Called with every event that is not the same on both sides.
      on_end: Called once, with the reason, when nothing more can come or go.
      stall_timeout_s: How long a stream's window may stay shut while somebody sends on it.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        connection: Connection,
        limits: Limits,
        *,
        on_event: Callable[[Event], None],
        on_end: Callable[[str], None],
        stall_timeout_s: float = math.inf,
    ) -> None:
        self.connection = connection
        self.streams: dict[int, Stream] = {}
        self.window_waiters: set[Stream] = set()
        self.stall_timeout_s = stall_timeout_s or math.inf
        self.ready = trio.Event()  # the peer has sent its SETTINGS, or never will
        self.end_reason: str | None = None
        self._transport = transport
        self._limits = limits
        self._write_timeout_s = limits.write_timeout_s or math.inf
        self._on_event = on_event
        self._on_end = on_end
        self._in_hand = 0
        self._writer = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._read_scope = trio.CancelScope()
        self._write_scope = trio.CancelScope()

    async def run(self) -> None:
        """Run until either side ends the connection; a lost peer is no error."""
        try:
            self.connection.initiate_connection()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_until_end)
                await self._write_until_end()
                nursery.cancel_scope.cancel()
        finally:
            self.finish("the connection was closed")
            await trio.aclose_forcefully(self._transport)

    def finish(self, reason: str) -> None:
        """End the connection: nothing more is read, what is written already gets a moment to leave."""
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
        reason = "the peer closed the connection"
        with self._read_scope as scope:
            scope.deadline = trio.current_time() + (self._limits.preface_timeout_s or math.inf)
            try:
                await self._read()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                reason = f"the connection broke: {error.__cause__ or error}"
        if scope.cancelled_caught:
            reason = f"the peer did not speak HTTP/2 within {self._limits.preface_timeout_s:g} s"
        self.finish(reason)

    async def _read(self) -> None:
        while data := await self._transport.receive_some(_READ_BYTES):
            for event in self.connection.receive_data(bytes(data), perf_counter()):
                if type(event) is MessageReceived:
                    stream = self.streams.get(event.stream_id)
                    if stream is not None:
                        stream.deliver(event)
                else:
                    self._handle(event)
            if self.connection.unsent_bytes:
                self.wake_writer()
            while self.unsent_bytes > 4 * self._limits.high_water_bytes and self.end_reason is None:
                await self._room.park()

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
                self.finish(f"the peer broke HTTP/2: {reason}")
            case _:
                if type(event) is SettingsReceived:
                    self._read_scope.deadline = math.inf
                    self.ready.set()
                self._on_event(event)

    # ---- writing

    @property
    def unsent_bytes(self) -> int:
        """What the peer's socket has not taken yet."""
        return self.connection.unsent_bytes + self._in_hand

    @property
    def has_room(self) -> bool:
        """Whether a sender may go on without waiting."""
        return self.unsent_bytes < self._limits.high_water_bytes

    async def wait_room(self) -> None:
        """Wait until `has_room`, or the connection has ended."""
        while not self.has_room and self.end_reason is None:
            await self._room.park()

    def wake_writer(self) -> None:
        """There is something to send; it leaves at the scheduler's next turn, with whatever joins it."""
        if self._writer:
            self._writer.unpark_all()

    async def _write_until_end(self) -> None:
        with self._write_scope as scope:
            try:
                while True:
                    if data := self.connection.data_to_send():
                        await self._write(data)
                    elif self.end_reason is None:
                        await self._writer.park()
                    else:
                        break
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.finish(f"the connection broke: {error.__cause__ or error}")
        if scope.cancelled_caught:
            self.finish(f"the peer accepted nothing for {self._write_timeout_s:g} s")

    async def _write(self, data: bytes) -> None:
        self._in_hand = len(data)
        for piece in _pieces(data):
            if self.end_reason is None:
                self._write_scope.deadline = trio.current_time() + self._write_timeout_s
            await self._transport.send_all(piece)
            self._in_hand -= len(piece)
            if self._room and self.has_room:
                self._room.unpark_all()
        if self.end_reason is None:
            self._write_scope.deadline = math.inf


def _pieces(data: bytes) -> Sequence[bytes | memoryview]:
    """Parts small enough that a slow peer which takes one in time is not called silent."""
    if len(data) <= _WRITE_BYTES:
        return (data,)
    view = memoryview(data)
    return [view[start : start + _WRITE_BYTES] for start in range(0, len(data), _WRITE_BYTES)]
