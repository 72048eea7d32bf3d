"""One call as its user sees it, on either side: messages in, messages out, both bounded.

Rules kept here:
- Reading and writing try without waiting first; every `_BURST` operations the scheduler gets its turn.
- A message taken is not yet acknowledged unless its taker says so: what is not acknowledged holds the peer.
- Messages that came before a good end, or before a server's status, are read before the end is told; a
  reset throws them away.
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
_BURST_BYTES = 4096  # inflated, that count as much as one operation
_PIECE_BYTES = 64 * 1024


class Carrier(Protocol):
    """The part of a `Driver` that its streams use."""

    connection: Connection
    stall_timeout_s: float

    @property
    def window_waiters(self) -> set[Stream]:
        """Streams that wait for the peer to open a window."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether a sender may go on without waiting."""
        ...

    async def wait_room(self) -> None:
        """Wait until `has_room`, or the connection has ended."""
        ...

    async def give_way(self) -> None:
        """Let the other connections have their turn."""
        ...

    def wake_writer(self) -> None:
        """Have pending bytes sent."""
        ...

    def handle_late(self) -> None:
        """Handle the events that taking messages has caused."""
        ...


class Stream:
    """A call's two directions. Made by the server or the channel, not by its user.

    Attributes:
      encoding: What both sides have agreed to compress messages with; None for not at all.
      compressing: Whether messages sent from now on are compressed, if something was agreed on.
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
        self.cut_inside_message = False  # nothing more can be sent then
        self._burst = 0
        self.on_arrival: Callable[[], None] | None = None  # told of each message that comes, before who waits is woken

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
        """`receive` for what is there already.

        Raises:
          trio.WouldBlock: nothing is, or what is there has to be inflated first.
        """
        message = self.take_nowait()
        if message is None:
            return None
        self.acknowledge(message)
        return message.data

    async def take(self) -> MessageReceived | None:
        """The next message, still holding its part of the window until `acknowledge`."""
        if not self._unread or self._burst >= _BURST:
            await self._wait_takeable()
        if self._unread and self._unread[0].encoding is not None:
            return await self._take_inflated(self._unread[0])
        return self.take_nowait()

    async def _take_inflated(self, message: MessageReceived) -> MessageReceived:
        """It stays unread until it is whole, so that a take that is cancelled loses nothing."""
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
        content = BytesIO()  # gives what it holds without another copy
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
        """`take` for what is there already; raises trio.WouldBlock as `receive_nowait` does."""
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
        """Give the window back what this message held; once for each message taken."""
        if self._connection.acknowledge(message):
            self._driver.wake_writer()

    def next_unread(self) -> MessageReceived | None:
        """What `take_nowait` would give now, left where it is."""
        return self._unread[0] if self._unread and self._unread[0].encoding is None else None

    def drop_next(self) -> None:
        """Take and acknowledge what `next_unread` has given, and what has been done with it."""
        self._burst += 1
        if self._connection.take(self._unread.popleft(), done=True):
            self._driver.wake_writer()

    def unread(self) -> Iterator[bytes]:
        """Look through what waits, oldest first, taking nothing; of what is compressed, no further than its beginning.

        Not across an await.
        """
        return (
            message.data if message.encoding is None else beginning(message.data, message.encoding)
            for message in self._unread
        )

    async def wait_unread_changed(self) -> None:
        """Wait until another message has come, or the input has ended. Look at `unread` before, not after."""
        if self.input_ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._arrivals.park()

    @property
    def input_ended(self) -> bool:
        """Nothing more will come; unread messages may still be there."""
        return self._input_ended or self._error is not None

    @property
    def is_broken(self) -> bool:
        """The call ended before its time."""
        return self._error is not None

    @property
    def unread_messages(self) -> int:
        """How many messages wait to be taken."""
        return len(self._unread)

    @property
    def unread_bytes(self) -> int:
        """Their size, as they came."""
        return sum(len(message.data) for message in self._unread)

    # ---- sending

    async def send(self, message: bytes) -> None:
        """Hand one message to the connection; waits while the peer or the socket takes no more.

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
        """`send` if that needs no waiting; False, and nothing done, if it does."""
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
        """Wait for room in the write buffer and in the peer's window, at the same moment."""
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
        """What a message that cannot be read raises when its call is over already."""
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
            raise copy.copy(self._error)  # each raise with a traceback of its own

    async def _yield(self) -> None:
        self._burst = 0
        await trio.lowlevel.checkpoint()

    # ---- what the driver calls

    def deliver(self, message: MessageReceived) -> None:
        """A message came."""
        self._unread.append(message)
        if self.on_arrival is not None:
            self.on_arrival()
        if self._unread and self._arrivals:
            self._arrivals.unpark_all()

    def end_input(self) -> None:
        """The peer sent its last message; those unread stay to be read."""
        self._input_ended = True
        self._arrivals.unpark_all()

    def fail(self, error: Exception, *, keep_unread: bool = False) -> None:
        """The call is over: whoever waits on it learns so."""
        if self._error is None:
            self._error = error
        if not keep_unread:
            self._unread.clear()
        self._arrivals.unpark_all()
        self._window.unpark_all()

    def open_window(self) -> None:
        """More may be sent."""
        if self._window:
            self._window.unpark_all()


def _pieces(head: bytes, message: bytes) -> Iterator[bytes | memoryview]:
    """The message after its prefix, in pieces that leave others their turn; only the first is copied."""
    view = memoryview(message)
    first = _PIECE_BYTES - PREFIX_BYTES
    yield head + view[:first]
    for start in range(first, len(message), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]
