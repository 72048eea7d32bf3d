"""The relay between a streaming call and its session: requests go in, events come out.

Two tasks do the work: a `Reader` takes requests and offers chunks to the session, a `Sender` receives the session's
events and sends them. A request is acknowledged once the session has taken it; the client may then send more.

On the usual path neither task wakes. Each sets a callback when it is made, and the task that reads the connection runs
a chunk from arrival to answer:

    Call.on_arrival → Reader._arrived → Session.offer → nodes → Session.show_to → Sender._send_now → Call.send_nowait

The handler in `pipelines` clears both callbacks when the relay ends, because call and session outlive Reader and
Sender: nothing may reach them afterwards, and the reference cycles must break.

A CANCEL overtakes queued requests: while the reader waits for room, it searches the unread messages for one.
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
"""Time that a client has after its CANCEL to read the last events, the final metrics among them."""

AT_ONCE_S = 0.004
"""Time after one read of the socket in which its chunks run inside the reading task.

Later chunks of the same read are left to their sessions' own tasks, so that other connections get their turn.
"""


class Sender:
    """Send a session's events on its call.

    Args:
      call: The streaming call.
      session: The session. The sender sets its `show_to` callback; the creator of the sender clears it.
      debug: Send stack traces.
    """

    __slots__ = ("_call", "_debug", "_nodes", "_session")

    def __init__(self, call: Call, session: Session, *, debug: bool) -> None:
        self._call = call
        self._session = session
        self._debug = debug
        self._nodes = NodeResults(debug=debug)
        session.show_to(self._send_now)

    async def run(self) -> None:
        """Send events until the session ends."""
        while (event := await self._session.receive()) is not None:
            if (message := self._encode(event)) is not None:
                await self._call.send(message)

    def _send_now(self, event: Event) -> bool:
        """Send an event without waiting, which is faster than waking `run`; False if that is not possible now."""
        message = self._encode(event)
        try:
            return message is None or self._call.send_nowait(message)
        except trio.BrokenResourceError:
            return False  # `run` meets the same error and raises it

    def _encode(self, event: Event) -> bytes | None:
        """Encode an event; None if a result cannot be encoded, which ends the session."""
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
    """Read a streaming call's requests and apply them to its session.

    Args:
      call: The streaming call. The reader sets its `on_arrival` callback; the creator of the reader clears it.
      session: The session that takes the requests.
      sending: Scope in which the sender runs; a CANCEL sets its deadline to LAST_WORDS_S.
      close: Called with a reason once no request has come for `idle_timeout_s`.
      idle_timeout_s: Measured by the engine's sweep, which must call `tick`.
    """

    __slots__ = (
        "_bug", "_call", "_close", "_idle_timeout_s", "_is_busy", "_quiet_s", "_searched", "_sending", "_session",
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
        self._searched = 0  # unread messages, from the oldest on, already searched for a CANCEL
        self._bug: Exception | None = None  # unexpected error in `_arrived`; `run` raises it in the call's own task
        call.on_arrival = self._arrived

    async def run(self) -> None:
        """Read until the client has ended its side, or the session has ended."""
        call, session = self._call, self._session
        try:
            while (message := await call.take()) is not None:
                if self._bug is not None:
                    raise self._bug
                self._searched = max(0, self._searched - 1)
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
        """Close the session of a client that may send and does not; called by the sweep."""
        if self._is_busy or self._call.unread_messages or self._call.input_ended:
            return
        self._quiet_s += step
        if self._quiet_s >= self._idle_timeout_s:
            self._quiet_s = -math.inf
            reason = f"the session was closed because nothing came for {self._idle_timeout_s:g} s"
            self._close(TimeLimitExceeded(reason))

    def _arrived(self) -> None:
        """Handle new messages at once if `run` waits for one; otherwise have it look again for a CANCEL."""
        if self._is_busy:
            self._session.wake()
            return
        try:
            while (message := self._call.next_unread()) is not None and self._take_now(message):
                self._quiet_s = 0.0
                self._call.drop_next()
        except (SessionClosed, ProtocolMisuse):
            pass  # the message stays unread: `run` takes it and meets the same error
        except Exception as bug:  # for `run` to raise, because the calling task serves other calls too
            self._bug = bug

    def _take_now(self, message: MessageReceived) -> bool:
        """Offer a message's chunk to the session.

        Returns:
          False if the message stays unread: it is not a chunk, there is no room, or AT_ONCE_S have passed.
        """
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
                "a second manifest: a session takes only one"
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
            raise ProtocolMisuse(f"control command {command} is unknown; it must be CLOSE (1), CANCEL (2) or FLUSH (3)")

    async def _send(self, chunk: Chunk | BadChunk) -> None:
        while not self._session.offer(chunk, at_once=True):
            await self._wait_room()

    async def _wait_room(self) -> None:
        """Wait until the session may have room; act on a CANCEL among the unread messages instead."""
        for data in islice(self._call.unread(), self._searched, None):
            self._searched += 1
            if _is_cancel(data):
                self._cancel()
                return
        await self._session.room()

    def _cancel(self) -> None:
        self._session.cancel()
        self._sending.deadline = trio.current_time() + LAST_WORDS_S

    async def _drain(self) -> None:
        """Discard requests to a session that is over, so that the client's window does not stay shut."""
        while await self._call.receive() is not None:
            pass


def _is_cancel(data: bytes) -> bool:
    """Return True if an unread request is a CANCEL. Requests over 64 bytes cannot be one and are not parsed."""
    if len(data) > 64:
        return False
    try:
        request = parse(streaming.StreamRequest(), data)
    except ProtocolMisuse:
        return False
    return request.WhichOneof("request") == "control" and request.control.command == _Control.COMMAND_CANCEL
