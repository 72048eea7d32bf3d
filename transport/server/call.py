"""A call on the server: the object that a handler receives, and the status that its end becomes.

Rules kept here:
- A handler runs in one task and one cancel scope that carries the client's deadline. A reset, a lost connection and
  a shutdown cancel that scope at once.
- A handler ends its call by returning (OK) or raising `StatusError`. Any other exception becomes INTERNAL with a
  neutral message; the log has the details, the wire does not.
- `trio.Cancelled` passes through.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from engine.errors import EngineError
from transport.grpc.connection import StreamGone
from transport.grpc.events import RequestStarted
from transport.grpc.metadata import BadHeader
from transport.grpc.status import Metadata, Status, StatusCode, StatusError
from transport.grpc.stream import Carrier, Stream

__all__ = ["Call", "Handler", "run_call", "unary"]

_log = logging.getLogger(f"headrace.{__name__}")


class Call(Stream):
    """One call, as its handler sees it.

    Attributes:
      path: Method, as `/package.Service/Method`.
      metadata: Custom metadata of the request.
      accepted_encodings: Compressions that the client accepts.
      deadline: Deadline on trio's clock; infinite if the client set none.
      peer: Address of the client, for logs.
      is_open_to_all: True if the call needed no token; a drain does not wait for it.
      on_close: Set by a handler that can end its call in an orderly way; called with the reason.
      trailing_metadata: Sent with the status, whatever it is; set by the handler.
    """

    __slots__ = (
        "_started", "_verdict", "accepted_encodings", "deadline", "is_open_to_all", "metadata", "on_close", "path",
        "peer", "scope", "trailing_metadata",
    )  # fmt: skip

    def __init__(self, driver: Carrier, request: RequestStarted, peer: str) -> None:
        super().__init__(driver, request.stream_id)
        self.path = request.path
        self.metadata = request.metadata
        self.accepted_encodings = request.accepted_encodings
        self.peer = peer
        self.is_open_to_all = False
        self.on_close: Callable[[EngineError], None] | None = None
        self.trailing_metadata: Metadata = ()
        self.scope = trio.CancelScope()
        if request.timeout_s is not None:
            self.scope.deadline = trio.current_time() + request.timeout_s
        self.deadline = self.scope.deadline
        self._started = False
        self._verdict: Status | None = None

    def expect_message(self) -> None:
        """End the call unless the next message, or the end of input, comes within `message_timeout_s`."""
        if not self.input_ended and not self.unread_messages:
            self._connection.expect_message(self.stream_id, trio.current_time())

    def compress(self, encoding: str) -> bool:
        """Compress messages from the first on ("gzip" or "deflate").

        Returns:
          False if the client does not accept the encoding, or the response has started.
        """
        if self._started or encoding not in self.accepted_encodings:
            return False
        self.encoding = encoding
        return True

    def start(self, metadata: Metadata = ()) -> None:
        """Send the initial metadata now; without this call, empty metadata is sent with the first message.

        Raises:
          RuntimeError: the initial metadata has been sent.
          BadHeader: the metadata cannot be sent.
        """
        if self._started:
            raise RuntimeError("the initial metadata has been sent")
        try:
            self._connection.start_response(self.stream_id, metadata, self.encoding)
        except StreamGone:
            self._check_open()
            raise trio.BrokenResourceError("the call is over") from None
        self._started = True
        self._driver.wake_writer()

    async def send(self, message: bytes) -> None:
        if not self._started:
            self.start()
        await super().send(message)

    def cancel(self, status: Status) -> None:
        """Cancel the handler and end the call with this status, whatever the handler does on its way out."""
        self._verdict = self._verdict or status
        self.scope.cancel()

    def request_close(self, reason: EngineError) -> bool:
        """Ask the handler to end the call in an orderly way; False if it set no `on_close`."""
        if self.on_close is None:
            return False
        self.on_close(reason)
        return True

    def fail(self, error: Exception, *, keep_unread: bool = False) -> None:
        super().fail(error, keep_unread=keep_unread)
        self.scope.cancel()

    def _stalled(self) -> Exception:
        return StatusError(
            StatusCode.RESOURCE_EXHAUSTED,
            f"the client has read nothing for {self._driver.stall_timeout_s:g} s",
        )

    def cancelled_status(self) -> Status:
        """Return the status of a call whose scope was cancelled: DEADLINE_EXCEEDED or CANCELLED."""
        if self._verdict is None and trio.current_time() >= self.deadline:
            return Status(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        return Status(StatusCode.CANCELLED, "the call was cancelled")

    def answer(self, status: Status) -> Status:
        """Send the status, unless the client has gone or has one already.

        Returns:
          The status of the call, sent or not.
        """
        status = self._verdict or status
        if self.cut_inside_message and status.code is StatusCode.OK:
            status = Status(StatusCode.DATA_LOSS, "the response was cut inside a message")
        trailers = status.metadata + tuple(self.trailing_metadata)
        try:
            self._connection.end_response(self.stream_id, Status(status.code, status.message, status.details, trailers))
        except StreamGone:
            return status
        except BadHeader as error:
            _log.error("%s: the trailers cannot be sent: %s", self.path, error)
            self._connection.end_response(self.stream_id, Status(status.code, status.message))
        self._driver.wake_writer()
        return status


Handler = Callable[[Call], Awaitable[None]]


def unary(function: Callable[[bytes, Call], Awaitable[bytes]]) -> Handler:
    """Make a handler from a function that answers one message with one message."""

    async def handle(call: Call) -> None:
        call.expect_message()
        request = await call.receive()
        if request is None:
            raise StatusError(StatusCode.INTERNAL, "the request has no message")
        call.expect_message()
        if await call.receive() is not None:
            raise StatusError(StatusCode.UNIMPLEMENTED, "the request has more than one message")
        await call.send(await function(request, call))

    return handle


async def run_call(call: Call, handler: Handler, *, debug_errors: bool) -> Status:
    """Run a handler to its end, answer the call, and return its status."""
    try:
        with call.scope:
            await handler(call)
        status = call.cancelled_status() if call.scope.cancelled_caught else Status()
    except Exception as error:  # the border: a failing handler must not end the connection; Cancelled is not caught
        status = _status_of(error, call, debug_errors=debug_errors)
    except BaseExceptionGroup as group:  # the connection ended: some tasks of the handler are cancelled, others fail
        cancelled, failures = group.split(trio.Cancelled)
        try:
            if cancelled is None or not isinstance(failures, ExceptionGroup):
                raise
            call.answer(_status_of(failures, call, debug_errors=debug_errors))
            raise cancelled from None
        finally:
            del cancelled, failures  # their tracebacks hold this frame: break the cycle
    return call.answer(status)


def _status_of(error: Exception, call: Call, *, debug_errors: bool) -> Status:
    if (chosen := _chosen(error)) is not None:
        return chosen.status
    if call.input_ended and _only(error, trio.BrokenResourceError):
        return Status(StatusCode.CANCELLED, "the client ended the connection or the call")
    _log.error("%s from %s failed", call.path, call.peer, exc_info=error)
    return Status(StatusCode.INTERNAL, repr(error) if debug_errors else "internal error")


def _chosen(error: Exception) -> StatusError | None:
    """Return the raised status error, unwrapped from a nursery's group; the first, if all in the group are such."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, ExceptionGroup) and _only(error, StatusError):
        return _chosen(error.exceptions[0])
    return None


def _only(error: Exception, kind: type[Exception]) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.split(kind)[1] is None
    return isinstance(error, kind)
