"""One HTTP/2 connection that carries gRPC calls, with no socket: bytes in, events out, bytes to send.

Rules kept here:
- What a peer sends becomes events (`dispatch`); this is what the connection's user does with it.
- At most `max_frames` frames are handled in one go, so that whoever drives it can give others their turn.
- Operations on a stream that is over raise `StreamGone`.
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

    Feed it with `receive_data`, act on the events, and send what `data_to_send` gives after every call.

    Args:
      budget: Of what large messages hold beyond their windows; one for all connections of a server.
      large: Whether every stream may draw on it; else only those that `allow_large` names.
    """

    # ---- the connection as a whole

    def initiate_connection(self) -> None:
        """Send the preface and SETTINGS. To be called first, on either side."""
        self._h2.start()

    def receive_data(
        self, data: bytes, at: float = 0.0, received_at: float | None = None, max_frames: int = _UNLIMITED
    ) -> list[Event]:
        """Take what the socket gave; after `ConnectionFailed` nothing more is taken.

        Args:
          data: What it gave. None at all is right when `has_more` says that there is more to handle.
          at: Now, on the clock that limits go by.
          received_at: What the messages shall say; `at` unless told.
          max_frames: How many frames to handle now.
        """
        self._at = at
        self._received_at = at if received_at is None else received_at
        if self._failed:
            return []
        self._h2.feed(data, at, max_frames)
        return self.finish_turn()

    def finish_turn(self) -> list[Event]:
        """Go on where a call's beginning made `receive_data` stop, up to the next call or the last of `max_frames`."""
        if self._failed:
            return []
        found: list[Event] = super().receive_data(b"")
        if self._h2.failure is not None:
            self.close()
            found.append(events.ConnectionFailed(self._h2.failure))
        return found

    @property
    def has_more(self) -> bool:
        """Whether frames wait to be handled."""
        return not self._failed and self._h2.incoming_buffer.has_whole_frame

    @property
    def incomplete_since(self) -> float | None:
        """Since when a frame, or a block of headers, has been coming in."""
        return self._h2.incoming_buffer.since

    @property
    def buffered_bytes(self) -> int:
        """What has been received and not handled yet."""
        return self._h2.incoming_buffer.buffered_bytes

    def overdue(self, at: float) -> list[Event]:
        """End the calls whose message has been coming in for too long (server side only)."""
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
                inbound.since = at  # it is us who hold it back
        return found

    def fail(self, code: int, reason: str) -> None:
        """End the connection: GOAWAY, and nothing more is taken."""
        if not self._failed:
            self._h2.fail(code, reason)
            self.close()

    def close(self) -> None:
        """The socket is gone, or nothing more is taken from it: let go of what the streams hold."""
        self._failed = True
        for stream_id in list(self._streams):
            self._forget(stream_id)
        release(self._h2)

    def late_events(self) -> list[Event]:
        """What has happened since `receive_data`; to be asked before `data_to_send`."""
        if not self._late:
            return []
        late, self._late = self._late, []
        return late

    @property
    def unsent_bytes(self) -> int:
        return self._h2.unsent_bytes

    @property
    def failed(self) -> bool:
        """Whether either side broke it off; nothing more is taken then."""
        return self._failed

    @property
    def calls_seen(self) -> int:
        """Grows with every call that starts."""
        return int(self._h2.highest_outbound_stream_id if self.client_side else self._h2.highest_inbound_stream_id)

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def ping(self, data: bytes = b"headrace") -> None:
        """Ask for a sign of life; `data` is eight bytes."""
        if not self._failed:
            self._h2.ping(data)

    def begin_shutdown(self, reason: str = "") -> None:
        """Ask for no more streams; those under way are still taken until `finish_shutdown` (RFC 9113, 6.8)."""
        if not self._failed:
            self._h2.send_goaway(ResetCode.NO_ERROR, _UNLIMITED, reason.encode())

    def finish_shutdown(self, code: int = 0, reason: str = "") -> None:
        """Take no more streams; those that are open go on."""
        if not self._failed:
            self._refused_above = self._h2.highest_inbound_stream_id
            self._h2.send_goaway(code, self._refused_above, reason.encode())

    # ---- receiving on a stream

    def take(self, message: MessageReceived, *, done: bool = False) -> bool:
        """The consumer has the message; tells if there is now something to send.

        Args:
          message: The message.
          done: It needs no `acknowledge`; else it still holds its part of the window.
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
        """The slices of a compressed message; raises FramingError."""
        assert message.encoding is not None
        return inflating(message.data, message.encoding, self._limits.max_message_bytes)

    def refuse(self, message: MessageReceived, error: FramingError) -> None:
        """It cannot be inflated: its call ends, as `late_events` tell."""
        if message.stream_id in self._streams:
            self._late += self._fail(message.stream_id, Status(error.code, str(error)))

    def acknowledge(self, message: MessageReceived) -> bool:
        """Let the peer send as much again as this message held; tells the same."""
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return False
        stream.inbound.credit(message.flow_length)
        return self._send_credit(message.stream_id, stream)

    def expect_message(self, stream_id: int, at: float) -> None:
        """From now on the next message, or the end of them, may take no longer than one that has begun."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.inbound.since is None:
            stream.inbound.since = at

    def allow_large(self, stream_id: int) -> None:
        """Let a stream draw on the budget of large messages: its caller is known."""
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
        """Bytes that both windows allow at this moment, in as many frames as it takes."""
        if stream_id not in self._streams:
            raise StreamGone(stream_id)
        return self._h2.sendable(stream_id)

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """Send as much as the windows allow; gives the number of bytes, 0 when they are shut."""
        allowed = min(self.sendable(stream_id), len(data))
        frame_size: int = self._h2.max_outbound_frame_size
        for start in range(0, allowed, frame_size):
            self._h2.send_message_data(stream_id, data[start : min(start + frame_size, allowed)])
        return allowed

    def send_whole(self, stream_id: int, data: bytes) -> bool:
        """Send all of it, or nothing while the windows do not allow that; tells which."""
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
          stream_id: Whose.
          metadata: To be sent along.
          encoding: How messages are compressed that are; one that the client accepts.
        """
        stream = self._stream(stream_id)
        self._h2.send_headers(stream_id, headers.response_fields(metadata, encoding=encoding))
        stream.started = True

    # ---- the client's side

    @property
    def can_start_request(self) -> bool:
        """Whether the server takes one more stream now."""
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
        """Open a call and give its stream's id. Ask `can_start_request` first."""
        fields = headers.request_fields(path, authority, scheme, metadata, timeout_s, encoding)
        stream_id: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, fields)
        self._open(stream_id)
        return stream_id

    def end_request(self, stream_id: int) -> None:
        """Say that the last message was sent; the response goes on."""
        self._stream(stream_id)
        self._h2.end_stream(stream_id)
