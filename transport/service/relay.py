"""A streaming call and its session: requests go in, events come out.

How a streaming call is relayed: one task reads requests and offers chunks to the session, one receives the session's
events and sends them. A request is acknowledged, which lets the client send more, when the session has taken it.
As long as neither has to wait, neither is woken: a chunk is done, and its result sent, in the turn of the task that
reads the connection.
While the reader waits for room it looks through what has arrived, within the stream's window, for a CANCEL, which
overtakes what is queued.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from time import perf_counter

import trio

from engine.errors import EngineError, ProtocolMisuse, SessionClosed, TimeLimitExceeded
from engine.messages import BadChunk, Chunk, Result, SessionMetrics
from engine.session import Event, Session
from protos import streaming_pb2 as streaming
from transport.codec.events import encode_error, encode_metrics
from transport.codec.requests import decode_chunk, parse
from transport.codec.results import NodeResults, encode_result
from transport.grpc.events import MessageReceived
from transport.server.call import Call

__all__ = ["Reader", "Sender"]

_Control = streaming.StreamControl
LAST_WORDS_S = 1.0
"""What a client has to take the final metrics in, after a CANCEL."""

AT_ONCE_S = 0.004
"""Chunks that came together are done at once for so long; then the sessions' tasks take their turns with others."""


class Sender:
    """Sends a session's events on its call.

    Args:
      call: Where to.
      session: Whose.
      debug: Send stack traces.
    """

    __slots__ = ("_call", "_debug", "_nodes", "_session")

    def __init__(self, call: Call, session: Session, *, debug: bool) -> None:
        self._call = call
        self._session = session
        self._debug = debug
        self._nodes = NodeResults(debug=debug)
        session.show_to(self._sends_now)

    async def run(self) -> None:
        """Send all there are, to the session's end."""
        while (event := await self._session.receive()) is not None:
            if (message := self._encode(event)) is not None:
                await self._call.send(message)

    def _sends_now(self, event: Event) -> bool:
        """Send an event if that needs no waiting: quicker than waking the task that does."""
        message = self._encode(event)
        try:
            return message is None or self._call.send_nowait(message)
        except trio.BrokenResourceError:
            return False  # for the task to find out

    def _encode(self, event: Event) -> bytes | None:
        """An event's message; None for a result that cannot be told, which ends the session."""
        try:
            if isinstance(event, Result):
                return encode_result(event, self._nodes).SerializeToString()
            if isinstance(event, SessionMetrics):
                return encode_metrics(event).SerializeToString()
            return encode_error(event, debug=self._debug).SerializeToString()
        except EngineError as error:
            self._session.fail_last_row(error)
            return None


class Reader:
    """Reads a streaming call's requests and does what they say to its session.

    Args:
      call: Whose requests.
      session: What takes them.
      sending: In which events are sent; after a CANCEL the last of them have LAST_WORDS_S.
      close: Called, with the reason, when nothing has come for `idle_timeout_s`.
      idle_timeout_s: On the clock of the sweep, which has to look after this.
    """

    __slots__ = (
        "_bug", "_call", "_close", "_idle_timeout_s", "_is_busy", "_looked", "_quiet_s", "_sending", "_session",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        session: Session,
        sending: trio.CancelScope,
        close: Callable[[EngineError], None],
        idle_timeout_s: float,
    ) -> None:
        self._call = call
        self._session = session
        self._sending = sending
        self._close = close
        self._idle_timeout_s = idle_timeout_s
        self._quiet_s = 0.0
        self._is_busy = False
        self._looked = 0
        self._bug: Exception | None = None
        call.on_arrival = self._arrived

    async def run(self) -> None:
        """Read until the client has sent its last, or the session has ended."""
        call, session = self._call, self._session
        try:
            while (message := await call.take()) is not None:
                if self._bug is not None:
                    raise self._bug
                self._looked = max(0, self._looked - 1)
                self._quiet_s, self._is_busy = 0.0, True
                await self._handle(message)
                self._is_busy = False
                call.acknowledge(message)
            await session.close()
        except SessionClosed:
            await self._drain()
        except ProtocolMisuse as error:
            session.fail(error)

    def tick(self, clock: float, step: float) -> None:
        """Close the session of a client that could send, and sends nothing; called by the sweep."""
        if self._is_busy or self._call.unread_messages or self._call.input_ended:
            return
        self._quiet_s += step
        if self._quiet_s >= self._idle_timeout_s:
            self._quiet_s = -math.inf
            self._close(TimeLimitExceeded(f"nothing came for {self._idle_timeout_s:g} s: the session was closed"))

    def _arrived(self) -> None:
        """Something has come: do at once what can be, if the task waits for just that."""
        if self._is_busy:
            self._session.wake()
            return
        try:
            while (message := self._call.next_unread()) is not None and self._takes_now(message):
                self._quiet_s = 0.0
                self._call.drop_next()
        except (SessionClosed, ProtocolMisuse):
            pass  # nothing has been done: the task finds out
        except Exception as bug:  # the task's to raise: this one serves other calls too
            self._bug = bug

    def _takes_now(self, message: MessageReceived) -> bool:
        """Do what a message says if it is a chunk and there is room, unless what came with it has taken long."""
        began = perf_counter()
        if began - message.received_at > AT_ONCE_S:
            return False
        chunk = decode_chunk(parse(streaming.StreamRequest(), message.data), message.received_at, began)
        return chunk is not None and self._session.offer(chunk, at_once=True)

    async def _handle(self, message: MessageReceived) -> None:
        began = perf_counter()
        request = parse(streaming.StreamRequest(), message.data)
        if (chunk := decode_chunk(request, message.received_at, began)) is not None:
            await self._send(chunk)
        elif (what := request.WhichOneof("request")) == "control":
            await self._command(request.control.command)
        else:
            raise ProtocolMisuse(
                "a second manifest: a session has just one"
                if what == "manifest"
                else "an empty request: it must have a chunk or a control"
            )

    async def _command(self, command: int) -> None:
        session = self._session
        if command == _Control.COMMAND_CANCEL:
            self._cancel()
        elif command in (_Control.COMMAND_CLOSE, _Control.COMMAND_FLUSH):
            while not session.try_flush(final=command == _Control.COMMAND_CLOSE):
                await self._wait_room()
        else:
            raise ProtocolMisuse(f"control command {command} is unknown; known are CLOSE (1), CANCEL (2), FLUSH (3)")

    async def _send(self, chunk: Chunk | BadChunk) -> None:
        while not self._session.offer(chunk, at_once=True):
            await self._wait_room()

    async def _wait_room(self) -> None:
        """Wait until the session may have room, unless a CANCEL lies among what has arrived."""
        for data in islice(self._call.unread(), self._looked, None):
            self._looked += 1
            if _is_cancel(data):
                self._cancel()
                return
        await self._session.room()

    def _cancel(self) -> None:
        self._session.cancel()
        self._sending.deadline = trio.current_time() + LAST_WORDS_S

    async def _drain(self) -> None:
        """Take what the client still sends to a session that is over, so that its window does not stay shut."""
        while await self._call.receive() is not None:
            pass


def _is_cancel(data: bytes) -> bool:
    """Whether a request that has not been taken is a CANCEL; chunks are told by their size, unparsed."""
    if len(data) > 64:
        return False
    try:
        request = parse(streaming.StreamRequest(), data)
    except ProtocolMisuse:
        return False
    return request.WhichOneof("request") == "control" and request.control.command == _Control.COMMAND_CANCEL
