"""One HTTP/2 connection that carries gRPC calls, without a socket: bytes in, events out, bytes to send.

Rules kept here:
- `Connection` and `ReceivingHalf` are one class in two modules, cut by direction: `receiving` turns what the peer does
  into events, this module has the operations of the connection's user. They share all attributes.
- `receive_data` handles at most `max_frames` frames, so that its caller can let other tasks run.
- Operations on a stream that has ended raise `StreamGone`, except `take`, `acknowledge`, `refuse`, `expect_message`,
  `allow_large` and `reset`, which do nothing then.
"""

from __future__ import annotations

from collections.abc import Iterator

from transport.grpc import events, headers
from transport.grpc.events import Event, MessageReceived
from transport.grpc.framing import FramingError, inflating
from transport.grpc.http2 import ResetCode, release
from transport.grpc.receiving import ReceivingHalf, StreamGone
from transport.grpc.status import Metadata, Status, StatusCode

__all__ = ["Connection", "ResetCode", "StreamGone"]

_UNLIMITED = 2**31 - 1


class Connection(ReceivingHalf):
    """Either side of a connection, over purerpc's sans-io layer.

    Feed it with `receive_data`, act on the events, and send the bytes of `data_to_send` after every call.

    Args:
      client_side: True for the side that starts calls.
      limits: Sizes and timeouts.
      budget: Budget for bytes of large messages beyond their windows; one for all connections of a server.
      large: True if every stream may draw on the budget, False if only those passed to `allow_large` may.
    """

    # ---- the connection as a whole

    def initiate_connection(self) -> None:
        """Send the preface and SETTINGS. Call it first, on either side."""
        self._h2.start()

    def receive_data(
        self, data: bytes, at: float = 0.0, received_at: float | None = None, max_frames: int = _UNLIMITED
    ) -> list[Event]:
        """Handle bytes from the socket; after `ConnectionFailed` they are ignored.

        Args:
          data: Received bytes; b"" to continue with buffered frames while `has_more` is true.
          at: Current time, on the clock that the timeouts use.
          received_at: Time that the messages carry; None means `at`.
          max_frames: Largest number of frames to handle now.
        """
        self._at = at
        self._received_at = at if received_at is None else received_at
        if self._failed:
            return []
        self._h2.feed(data, at, max_frames)
        return self.finish_turn()

    def finish_turn(self) -> list[Event]:
        """Continue after a new call's headers made `receive_data` stop: up to the next call, or to `max_frames`."""
        if self._failed:
            return []
        found: list[Event] = super().receive_data(b"")
        if self._h2.failure is not None:
            self.close()
            found.append(events.ConnectionFailed(self._h2.failure))
        return found

    @property
    def has_more(self) -> bool:
        """True if buffered frames can be handled."""
        return not self._failed and self._h2.incoming_buffer.has_whole_frame

    @property
    def incomplete_since(self) -> float | None:
        """Arrival of the first bytes of a frame or header block that is still incomplete; None without one."""
        return self._h2.incoming_buffer.since

    @property
    def buffered_bytes(self) -> int:
        """Number of bytes received and not handled yet."""
        return self._h2.incoming_buffer.buffered_bytes

    def overdue(self, at: float) -> list[Event]:
        """End the calls whose message takes longer than `message_timeout_s` to arrive (server side only)."""
        timeout_s = self._limits.message_timeout_s
        if self.client_side or not timeout_s:
            return []
        late = [(stream_id, stream.inbound) for stream_id, stream in self._streams.items()
                if stream.inbound.since is not None and stream.inbound.since + timeout_s <= at]  # fmt: skip
        found: list[Event] = []
        for stream_id, inbound in late:
            if self._h2.may_send(stream_id):
                status = Status(StatusCode.DEADLINE_EXCEEDED, f"no whole message came within {timeout_s:g} s")
                found += self._fail(stream_id, status)
            else:
                inbound.since = at  # our closed window delays the message, so its time begins anew
        return found

    def fail(self, code: int, reason: str) -> None:
        """End the connection: send GOAWAY and ignore whatever else is received."""
        if not self._failed:
            self._h2.fail(code, reason)
            self.close()

    def close(self) -> None:
        """Stop receiving and release what the streams hold; the socket is gone or no longer read."""
        self._failed = True
        for stream_id in list(self._streams):
            self._forget(stream_id)
        release(self._h2)

    def late_events(self) -> list[Event]:
        """Return the events that other operations caused since `receive_data`. Call it before `data_to_send`."""
        if not self._late:
            return []
        late, self._late = self._late, []
        return late

    @property
    def unsent_bytes(self) -> int:
        return self._h2.unsent_bytes

    @property
    def failed(self) -> bool:
        """True once either side has ended the connection; received bytes are then ignored."""
        return self._failed

    @property
    def calls_seen(self) -> int:
        """A number that grows with every call that starts (the highest stream id)."""
        return int(self._h2.highest_outbound_stream_id if self.client_side else self._h2.highest_inbound_stream_id)

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def ping(self, data: bytes = b"headrace") -> None:
        """Send a PING with these eight bytes."""
        if not self._failed:
            self._h2.ping(data)

    def begin_shutdown(self, reason: str = "") -> None:
        """Ask the peer to open no more streams; those it opens until `finish_shutdown` are accepted (RFC 9113, 6.8)."""
        if not self._failed:
            self._h2.send_goaway(ResetCode.NO_ERROR, _UNLIMITED, reason.encode())

    def finish_shutdown(self, code: int = 0, reason: str = "") -> None:
        """Refuse new streams; open ones continue."""
        if not self._failed:
            self._refused_above = self._h2.highest_inbound_stream_id
            self._h2.send_goaway(code, self._refused_above, reason.encode())

    # ---- receiving on a stream

    def take(self, message: MessageReceived, *, done: bool = False) -> bool:
        """Note that the consumer has the message; return True if bytes are now to be sent.

        Args:
          message: The message.
          done: True to acknowledge it too; otherwise it holds its part of the window until `acknowledge`.
        """
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return False
        try:
            stream.inbound.take(message.data, message.flow_length, done=done)
        except FramingError as error:
            self._late += self._fail(message.stream_id, Status(error.code, str(error)))
            return True
        return self._send_credit(message.stream_id, stream)

    def inflating(self, message: MessageReceived) -> Iterator[bytes]:
        """Yield the slices of a compressed message; raises FramingError."""
        assert message.encoding is not None
        return inflating(message.data, message.encoding, self._limits.max_message_bytes)

    def refuse(self, message: MessageReceived, error: FramingError) -> None:
        """End the call of a message that cannot be inflated; `late_events` report it."""
        if message.stream_id in self._streams:
            self._late += self._fail(message.stream_id, Status(error.code, str(error)))

    def acknowledge(self, message: MessageReceived) -> bool:
        """Return this message's bytes to the window; return True if bytes are now to be sent."""
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return False
        stream.inbound.credit(message.flow_length)
        return self._send_credit(message.stream_id, stream)

    def expect_message(self, stream_id: int, at: float) -> None:
        """Start the message timeout now, as if the next message, or the end of the stream, had begun to arrive."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.inbound.since is None:
            stream.inbound.since = at

    def allow_large(self, stream_id: int) -> None:
        """Allow a stream to draw on the budget for large messages, because its caller is known."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        try:
            stream.inbound.allow_large()
        except FramingError as error:
            self._late += self._fail(stream_id, Status(error.code, str(error)))
        else:
            self._send_credit(stream_id, stream)

    # ---- sending on a stream

    def sendable(self, stream_id: int) -> int:
        """Return the number of bytes that both windows allow now."""
        if stream_id not in self._streams:
            raise StreamGone(stream_id)
        return self._h2.sendable(stream_id)

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """Send as much as the windows allow; return the number of bytes, 0 when a window is shut."""
        allowed = min(self.sendable(stream_id), len(data))
        frame_size: int = self._h2.max_outbound_frame_size
        for start in range(0, allowed, frame_size):
            self._h2.send_message_data(stream_id, data[start : min(start + frame_size, allowed)])
        return allowed

    def send_whole(self, stream_id: int, data: bytes) -> bool:
        """Send all bytes and return True, or send nothing and return False while the windows do not allow all."""
        if stream_id not in self._streams:
            raise StreamGone(stream_id)
        if self._h2.sendable(stream_id) < len(data):
            return False
        if len(data) <= self._h2.max_outbound_frame_size:
            self._h2.send_message_data(stream_id, data)
        else:
            self.send(stream_id, data)
        return True

    # ---- the server's side

    def start_response(self, stream_id: int, metadata: Metadata = (), encoding: str | None = None) -> None:
        """Send the initial metadata; once, before the first message.

        Args:
          stream_id: Stream of the call.
          metadata: Custom metadata.
          encoding: Compression of the messages that are compressed; one that the client accepts.
        """
        stream = self._stream(stream_id)
        self._h2.send_headers(stream_id, headers.response_fields(metadata, encoding=encoding))
        stream.started = True

    # ---- the client's side

    @property
    def can_start_request(self) -> bool:
        """True if the server accepts one more stream now."""
        return bool(len(self._streams) < self._h2.remote_settings.max_concurrent_streams)

    def start_request(
        self,
        path: str,
        *,
        authority: str,
        scheme: str = "http",
        metadata: Metadata = (),
        timeout_s: float | None = None,
        encoding: str | None = None,
    ) -> int:
        """Open a call and return its stream id. Check `can_start_request` first."""
        fields = headers.request_fields(path, authority, scheme, metadata, timeout_s, encoding)
        stream_id: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, fields)
        self._open(stream_id)
        return stream_id

    def end_request(self, stream_id: int) -> None:
        """Send END_STREAM: no more messages follow; the response continues."""
        self._stream(stream_id)
        self._h2.end_stream(stream_id)
