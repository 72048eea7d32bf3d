"""One HTTP/2 connection that carries gRPC calls, with no socket: bytes in, events out, bytes to send.

Rules kept here:
- Of purerpc it is the only module to know inner names; of h2, `http2`.
- What one stream does wrong ends that stream; only a breach of HTTP/2 itself ends the connection.
- The connection's window is credited when bytes arrive, a stream's when its consumer acknowledges them (see
  `inbound`), so a stalled stream holds nobody else.
- h2 has worked through a whole read before its events are seen here, so a stream may be closed by then.
- Of a stream that is over, nothing stays. Operations on one raise `StreamGone`.
"""

from typing import Any

from attrs import define
from purerpc.grpclib.config import GRPCConfiguration
from purerpc.grpclib.connection import GRPCConnection

from transport import events, heads
from transport.events import Event, MessageReceived
from transport.framing import FramingError
from transport.guard import Budget
from transport.http2 import Http2, ResetCode
from transport.inbound import Inbound
from transport.limits import Limits
from transport.rpc_status import Metadata, Status, StatusCode

__all__ = ["Connection", "ResetCode", "StreamGone"]

_UNLIMITED = 2**31 - 1


class StreamGone(Exception):
    """The stream has ended or was reset; there is nothing to do on it any more."""


@define
class _Stream:
    inbound: Inbound
    started: bool = False  # the response


class Connection(GRPCConnection):
    """Either side of a connection, over purerpc's sans-io layer.

    Feed it with `receive_data`, act on the events, and send what `data_to_send` gives after every call.

    Args:
      budget: Of what large messages hold beyond their windows; one for all connections of a server.
      large: Whether every stream may draw on it; else only those that `allow_large` names.
    """

    h2_connection: Http2

    def __init__(
        self, *, client_side: bool, limits: Limits | None = None, budget: Budget | None = None, large: bool = True
    ) -> None:
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._limits.large_messages_bytes)
        self._large = large
        self.client_side = client_side
        self._streams: dict[int, _Stream] = {}
        self._refused_above = _UNLIMITED
        self._failed = False
        self._at = 0.0
        self._received_at = 0.0
        self._late: list[Event] = []
        super().__init__(GRPCConfiguration(client_side, max_message_length=self._limits.max_message_bytes))
        self._h2 = self.h2_connection = Http2(self._limits, client_side=client_side)
        self._h2.turn_ends_with_headers = not large

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
        found: list[Event] = super().receive_data(b"")
        if self._h2.failure is not None:
            self._failed = True
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
                status = Status(StatusCode.DEADLINE_EXCEEDED, f"a message was not whole within {timeout_s:g} s")
                found += self._fail(stream_id, status)
            else:
                inbound.since = at  # it is us who hold it back
        return found

    def fail(self, code: int, reason: str) -> None:
        """End the connection: GOAWAY, and nothing more is taken."""
        if not self._failed:
            self._failed = True
            self._h2.fail(code, reason)
            self.close()

    def close(self) -> None:
        """The socket is gone, or nothing more is taken from it: let go of what the streams hold."""
        for stream_id in list(self._streams):
            self._forget(stream_id)

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

    def go_away(self, code: int = 0, reason: str = "") -> None:
        """Take no more streams; those that are open go on."""
        if not self._failed:
            self._refused_above = self._h2.highest_inbound_stream_id
            self._h2.announce_end(code, self._refused_above, reason.encode())

    # ---- receiving on a stream

    def take(self, message: MessageReceived) -> bool:
        """The consumer has the message, which still holds its window; tells if there is now something to send."""
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return False
        try:
            stream.inbound.take(message.data, message.flow_length)
        except FramingError as error:
            self._late += self._fail(message.stream_id, Status(error.code, str(error)))
            return True
        return self._tell_credit(message.stream_id, stream)

    def acknowledge(self, message: MessageReceived) -> bool:
        """Let the peer send as much again as this message held; tells the same."""
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return False
        stream.inbound.credit(message.flow_length)
        return self._tell_credit(message.stream_id, stream)

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
            self._tell_credit(stream_id, stream)

    def _tell_credit(self, stream_id: int, stream: _Stream) -> bool:
        increment = stream.inbound.increment_due(self._at)
        if not increment or not self._h2.is_open(stream_id):
            return False
        self._h2.increment_flow_control_window(increment, stream_id)
        return True

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

    def reset(self, stream_id: int, code: int = ResetCode.CANCEL) -> None:
        """Drop a stream at once; no error when it is over already."""
        if self._forget(stream_id) and self._h2.is_open(stream_id):
            self._h2.reset_stream(stream_id, code)
            self._h2.retire(stream_id)

    # ---- the server's side

    def start_response(self, stream_id: int, metadata: Metadata = (), encoding: str | None = None) -> None:
        """Send the initial metadata; once, before the first message.

        Args:
          stream_id: Whose.
          metadata: To be sent along.
          encoding: How messages are compressed that are; one that the client accepts.
        """
        stream = self._stream(stream_id)
        self._h2.send_headers(stream_id, heads.response_fields(metadata, encoding=encoding))
        stream.started = True

    def end_response(self, stream_id: int, status: Status, http_status: int = 200) -> None:
        """Answer with the status; what the client may still be sending is cut off without blame."""
        fields = heads.end_fields(status)
        if not self._stream(stream_id).started:
            fields = heads.response_fields((), http_status) + fields
        self._forget(stream_id)
        if self._h2.is_open(stream_id):
            self._h2.send_headers(stream_id, fields, end_stream=True)
        if self._h2.is_open(stream_id):
            self._h2.reset_stream(stream_id, ResetCode.NO_ERROR)
        self._h2.retire(stream_id)
        self._h2.guard.call_ended()

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
        fields = heads.request_fields(path, authority, scheme, metadata, timeout_s, encoding)
        stream_id: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, fields)
        self._streams[stream_id] = _Stream(self._inbound(None))
        return stream_id

    def end_request(self, stream_id: int) -> None:
        """Say that the last message was sent; the response goes on."""
        self._stream(stream_id)
        self._h2.end_stream(stream_id)

    # ---- what purerpc's dispatch calls, one for each of h2's events

    def _request_received(self, event: Any) -> list[Event]:
        stream_id = event.stream_id
        self._streams[stream_id] = _Stream(self._inbound(None))
        if stream_id > self._refused_above or len(self._streams) > self._limits.max_streams:
            self._refuse(stream_id, ResetCode.REFUSED_STREAM)
            return []
        try:
            head = heads.read_request(event.headers, self._limits.max_header_bytes)
        except heads.MalformedHead:
            self._refuse(stream_id, ResetCode.PROTOCOL_ERROR)
            return []
        except heads.RefusedHead as refused:
            self.end_response(stream_id, refused.status, refused.http_status)
            self._charge()
            return []
        self._streams[stream_id].inbound = self._inbound(head.encoding)
        return [
            events.RequestStarted(stream_id, head.path, head.authority, head.metadata, head.timeout_s, head.accepted)
        ]

    def _response_received(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return []
        try:
            head = heads.read_response(event.headers, self._limits.max_header_bytes)
        except heads.BadHead as bad:
            return self._fail(event.stream_id, bad.status)
        if head.status is not None:
            return self._finish(event.stream_id, head.status)
        stream.inbound = self._inbound(head.encoding)
        return [events.ResponseStarted(event.stream_id, head.metadata)]

    def _trailers_received(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None or not self.client_side:
            return []  # a client's trailers say nothing to gRPC; its END_STREAM follows
        try:
            status = heads.read_end(event.headers, self._limits.max_header_bytes)
        except heads.BadHead as bad:
            status = bad.status
        if stream.inbound.inside_message and status.code is StatusCode.OK:
            status = Status(StatusCode.DATA_LOSS, "the response ended inside a message")
        return self._finish(event.stream_id, status)

    def _data_received(self, event: Any) -> list[Event]:
        stream_id, flow_length = event.stream_id, event.flow_controlled_length
        self._h2.credit_connection(flow_length)
        stream = self._streams.get(stream_id)
        if stream is None:
            return []
        try:
            messages = stream.inbound.feed(event.data, flow_length, self._at)
        except FramingError as error:
            return self._fail(stream_id, Status(error.code, str(error)))
        self._tell_credit(stream_id, stream)
        return [MessageReceived(stream_id, data, held, self._received_at, packed) for data, held, packed in messages]

    def _stream_ended(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return []
        if not self.client_side and not stream.inbound.inside_message:
            return [events.HalfClosed(event.stream_id)]
        return self._fail(event.stream_id, Status(StatusCode.DATA_LOSS, "the stream ended before its time"))

    def _stream_reset(self, event: Any) -> list[Event]:
        self._h2.retire(event.stream_id)
        if not self._forget(event.stream_id):
            return []
        self._charge()
        return [events.StreamReset(event.stream_id, int(event.error_code), bool(event.remote_reset))]

    def _window_updated(self, event: Any) -> list[Event]:
        return [events.WindowOpened(event.stream_id)]

    def _remote_settings_changed(self, event: Any) -> list[Event]:
        return [events.SettingsReceived(), events.WindowOpened(0)]

    def _settings_acknowledged(self, event: Any) -> list[Event]:
        return [events.SettingsAcknowledged()]

    def _ping_acknowledged(self, event: Any) -> list[Event]:
        return [events.PingAcknowledged(event.ping_data)]

    def _connection_terminated(self, event: Any) -> list[Event]:
        reason = (event.additional_data or b"").decode("utf-8", "replace")
        return [events.GoAway(event.last_stream_id, int(event.error_code), reason)]

    # ---- ends

    def _inbound(self, encoding: str | None) -> Inbound:
        return Inbound(self._limits, self._budget, encoding, large=self._large)

    def _refuse(self, stream_id: int, code: int) -> None:
        self.reset(stream_id, code)
        self._charge()

    def _charge(self) -> None:
        """A client pays for a call that it broke off or spoilt, or that came to nothing from the start."""
        if not self.client_side and not self._h2.guard.breaks(self._at):
            self._h2.fail(ResetCode.ENHANCE_YOUR_CALM, "too many calls broken off or refused")

    def _forget(self, stream_id: int) -> bool:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return False
        stream.inbound.close()
        return True

    def _finish(self, stream_id: int, status: Status) -> list[Event]:
        """The server has said its last word; a request that is still being sent ends with it."""
        self.reset(stream_id, ResetCode.NO_ERROR)
        return [events.ResponseEnded(stream_id, status)]

    def _fail(self, stream_id: int, status: Status) -> list[Event]:
        """The peer broke gRPC's rules on this stream: tell it, and whoever is using the stream."""
        if not self.client_side:
            self.end_response(stream_id, status)
            self._charge()
            return [events.StreamFailed(stream_id, status)]
        self.reset(stream_id, ResetCode.CANCEL)
        return [events.ResponseEnded(stream_id, status)]

    def _stream(self, stream_id: int) -> _Stream:
        try:
            return self._streams[stream_id]
        except KeyError:
            raise StreamGone(stream_id) from None
