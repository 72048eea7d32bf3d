"""One call as its user sees it, on either side: messages in, messages out, both bounded.

Rules kept here:
- Reading and writing try without waiting first; after every `_BURST` operations other tasks run.
- Taking a message does not acknowledge it. Messages that are not acknowledged fill the window and hold the peer back.
- Messages received before an orderly end, or before a server's status, are read before the end is reported; a reset
  discards them.
- `next_unread` and `drop_next` are for a callback that cannot wait: peek, do the work, then pop. A message whose work
  found no room stays unread for the receiving task, so nothing is lost.
- One task sends and one receives at a time; any number may watch.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Protocol

import trio
from attrs import evolve

from transport.grpc.connection import Connection, StreamGone
from transport.grpc.events import MessageReceived
from transport.grpc.framing import PREFIX_BYTES, FramingError, beginning, pack, prefix

__all__ = ["Carrier", "Stream"]

_BURST = 32
_BURST_BYTES = 4096  # inflated bytes that count as one operation
_PIECE_BYTES = 64 * 1024


class Carrier(Protocol):
    """The part of a `Driver` that its streams use."""

    connection: Connection
    stall_timeout_s: float

    @property
    def window_waiters(self) -> set[Stream]:
        """Streams whose senders wait for the peer to open a window."""
        ...

    @property
    def has_room(self) -> bool:
        """True if a sender may continue without waiting."""
        ...

    async def wait_room(self) -> None:
        """Wait until `has_room` is true or the connection has ended."""
        ...

    async def give_way(self) -> None:
        """Wait behind all other connections that have work queued."""
        ...

    def wake_writer(self) -> None:
        """Have pending bytes sent."""
        ...

    def handle_late(self) -> None:
        """Handle the events that taking messages has caused."""
        ...


class Stream:
    """A call's two directions. The server or the channel creates it, not its user.

    Attributes:
      encoding: Compression that both sides have agreed on; None without.
      compressing: False to send the next messages uncompressed although an encoding was agreed on.
      cut_inside_message: True if a send was cancelled inside its message; nothing more can be sent then.
      on_arrival: Called for each message on arrival, before waiting receivers wake.
    """

    __slots__ = (
        "_arrivals", "_burst", "_connection", "_driver", "_error", "_input_ended", "_sending", "_unread", "_window",
        "compressing", "cut_inside_message", "encoding", "on_arrival", "stream_id",
    )  # fmt: skip

    def __init__(self, driver: Carrier, stream_id: int) -> None:
        self.stream_id = stream_id
        self.encoding: str | None = None
        self.compressing = True
        self._driver = driver
        self._connection = driver.connection
        self._unread: deque[MessageReceived] = deque()
        self._arrivals = trio.lowlevel.ParkingLot()
        self._window = trio.lowlevel.ParkingLot()
        self._input_ended = False
        self._error: Exception | None = None
        self._sending = False
        self.cut_inside_message = False
        self._burst = 0
        self.on_arrival: Callable[[], None] | None = None

    # ---- receiving

    async def receive(self) -> bytes | None:
        """Take the next message and acknowledge it; None once the peer has sent its last.

        Raises:
          RpcError: on a client, the call ended with an error.
          trio.BrokenResourceError: on a server, the call was cancelled or its connection lost.
        """
        message = await self.take()
        if message is None:
            return None
        self.acknowledge(message)
        return message.data

    def receive_nowait(self) -> bytes | None:
        """`receive` without waiting.

        Raises:
          trio.WouldBlock: no message is unread, or the next one must be inflated first.
        """
        message = self.take_nowait()
        if message is None:
            return None
        self.acknowledge(message)
        return message.data

    async def take(self) -> MessageReceived | None:
        """Take the next message, which holds its part of the window until `acknowledge`; None after the last."""
        if not self._unread or self._burst >= _BURST:
            await self._wait_takeable()
        if self._unread and self._unread[0].encoding is not None:
            return await self._take_inflated(self._unread[0])
        return self.take_nowait()

    async def _take_inflated(self, message: MessageReceived) -> MessageReceived:
        """Inflate the next message and take it; it stays unread until then, so a cancelled `take` loses nothing."""
        try:
            content = await self._inflate(message)
        except FramingError as error:
            self._connection.refuse(message, error)
            self._driver.handle_late()
            self._driver.wake_writer()
            self._check_open()
            raise self._undecodable(error) from None
        if not self._unread:
            self._check_open()
        self._pop()
        return evolve(message, data=content)

    async def _inflate(self, message: MessageReceived) -> bytes:
        content = BytesIO()  # returns its content without another copy
        for part in self._connection.inflating(message):
            content.write(part)
            self._burst += 1 + len(part) // _BURST_BYTES
            if self._burst >= _BURST:
                self._burst = 0
                await self._driver.give_way()
        return content.getvalue()

    async def _wait_takeable(self) -> None:
        if self._burst >= _BURST:
            await self._yield()
        while not self._unread and not self._input_ended and self._error is None:
            self._burst = 0
            await self._arrivals.park()

    def take_nowait(self) -> MessageReceived | None:
        """`take` without waiting; raises trio.WouldBlock as `receive_nowait` does."""
        if self.next_unread() is not None:
            self._burst += 1
            return self._pop()
        if self._unread:
            raise trio.WouldBlock
        self._check_open()
        if self._input_ended:
            return None
        raise trio.WouldBlock

    def _pop(self) -> MessageReceived:
        message = self._unread.popleft()
        if self._connection.take(message):
            self._driver.wake_writer()
        return message

    def acknowledge(self, message: MessageReceived) -> None:
        """Return this message's bytes to the window; call it once for each message taken."""
        if self._connection.acknowledge(message):
            self._driver.wake_writer()

    def next_unread(self) -> MessageReceived | None:
        """Return the message that `take_nowait` would return now, but leave it unread; None if there is none."""
        return self._unread[0] if self._unread and self._unread[0].encoding is None else None

    def drop_next(self) -> None:
        """Take and acknowledge the message of `next_unread`, once its work is done."""
        self._burst += 1
        if self._connection.take(self._unread.popleft(), done=True):
            self._driver.wake_writer()

    def unread(self) -> Iterator[bytes]:
        """Yield the unread messages, oldest first, without taking them; of a compressed one only its first bytes.

        Do not await during the iteration.
        """
        return (
            message.data if message.encoding is None else beginning(message.data, message.encoding)
            for message in self._unread
        )

    async def wait_unread_changed(self) -> None:
        """Wait until another message has come or the input has ended. Read `unread` before, not after."""
        if self.input_ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._arrivals.park()

    @property
    def input_ended(self) -> bool:
        """True if no further message will come; unread ones may be left."""
        return self._input_ended or self._error is not None

    @property
    def is_broken(self) -> bool:
        """True if the call ended with an error."""
        return self._error is not None

    @property
    def unread_messages(self) -> int:
        """Number of messages that have not been taken."""
        return len(self._unread)

    @property
    def unread_bytes(self) -> int:
        """Size of the unread messages, as they were sent."""
        return sum(len(message.data) for message in self._unread)

    # ---- sending

    async def send(self, message: bytes) -> None:
        """Pass one message to the connection; waits while the peer or the socket accepts no more.

        Raises:
          trio.BusyResourceError: another task is sending on this stream.
          RpcError, trio.BrokenResourceError: the call is over, as for `receive`.
        """
        if not self.send_nowait(message):
            await self._send_in_pieces(*self._packed(message))
        self._burst += 1
        if self._burst >= _BURST:
            await self._yield()

    def send_nowait(self, message: bytes) -> bool:
        """Send if that needs no waiting; return False, and send nothing, if it does."""
        self._check_sendable()
        head, content = self._packed(message)
        if PREFIX_BYTES + len(content) > _PIECE_BYTES or not self._driver.has_room:
            return False
        self._check_open()
        try:
            if not self._connection.send_whole(self.stream_id, head + content):
                return False
        except StreamGone:
            raise trio.BrokenResourceError("the call is over") from None
        self._driver.wake_writer()
        return True

    def _packed(self, message: bytes) -> tuple[bytes, bytes]:
        if self.encoding is None or not self.compressing:
            return prefix(len(message)), message
        return pack(message, self.encoding)

    async def _send_in_pieces(self, head: bytes, message: bytes) -> None:
        self._sending = True
        started = finished = False
        try:
            for piece in _pieces(head, message):
                unsent = piece
                while unsent:
                    await self._wait_sendable()
                    sent = self._connection.send(self.stream_id, unsent)
                    self._driver.wake_writer()
                    unsent = unsent[sent:]
                    started = True
            finished = True
        finally:
            self._sending = False
            self.cut_inside_message = started and not finished

    async def _wait_sendable(self) -> None:
        """Wait until the write buffer and the peer's window both have room."""
        while True:
            await self._driver.wait_room()
            if self._sendable() > 0:
                return
            with trio.move_on_after(self._driver.stall_timeout_s) as scope:
                self._driver.window_waiters.add(self)
                try:
                    await self._window.park()
                finally:
                    self._driver.window_waiters.discard(self)
            if scope.cancelled_caught:
                raise self._stalled()

    def _stalled(self) -> Exception:
        return trio.BrokenResourceError("the peer has not read for too long")

    def _undecodable(self, error: FramingError) -> Exception:
        """Return the error for a message that cannot be inflated, on a call that has already ended."""
        return trio.BrokenResourceError(str(error))

    def _sendable(self) -> int:
        self._check_open()
        try:
            return self._connection.sendable(self.stream_id)
        except StreamGone:
            raise trio.BrokenResourceError("the call is over") from None

    def _check_sendable(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self.cut_inside_message:
            raise trio.BrokenResourceError("an earlier send was cancelled inside its message")

    def _check_open(self) -> None:
        if self._error is not None:
            raise copy.copy(self._error)  # a copy, because a shared exception would collect every raise's traceback

    async def _yield(self) -> None:
        self._burst = 0
        await trio.lowlevel.checkpoint()

    # ---- called by the driver

    def deliver(self, message: MessageReceived) -> None:
        """Add a received message."""
        self._unread.append(message)
        if self.on_arrival is not None:
            self.on_arrival()
        if self._unread and self._arrivals:
            self._arrivals.unpark_all()

    def end_input(self) -> None:
        """Note that the peer has sent its last message; unread messages stay readable."""
        self._input_ended = True
        self._arrivals.unpark_all()

    def fail(self, error: Exception, *, keep_unread: bool = False) -> None:
        """End the call with an error and wake every waiting task."""
        if self._error is None:
            self._error = error
        if not keep_unread:
            self._unread.clear()
        self._arrivals.unpark_all()
        self._window.unpark_all()

    def open_window(self) -> None:
        """Wake the sender, because the peer opened a window."""
        if self._window:
            self._window.unpark_all()


def _pieces(head: bytes, message: bytes) -> Iterator[bytes | memoryview]:
    """Yield prefix and message in pieces, so that other senders' messages come between; only the first is copied."""
    view = memoryview(message)
    first = _PIECE_BYTES - PREFIX_BYTES
    yield head + view[:first]
    for start in range(first, len(message), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]
