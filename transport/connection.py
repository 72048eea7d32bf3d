"""One HTTP/2 connection that carries gRPC calls, with no socket: bytes in, events out, bytes to send.

Rules kept here:
- This is the only module that knows purerpc's and h2's inner names.
- What one stream does wrong ends that stream; only a breach of HTTP/2 itself ends the connection.
- The connection's window is credited when bytes arrive, a stream's when its consumer acknowledges them (see
  `inbound`), so a stalled stream holds nobody else.
- h2 has worked through a whole read before its events are seen here, so a stream may be closed by then.
- Of a stream that is over, nothing stays. Operations on one raise `StreamGone`.
"""

from typing import Any

import h2.connection  # type: ignore[import-untyped]
import h2.errors  # type: ignore[import-untyped]
import h2.events  # type: ignore[import-untyped]
import h2.exceptions  # type: ignore[import-untyped]
import h2.settings  # type: ignore[import-untyped]
import h2.stream  # type: ignore[import-untyped]
import hpack  # type: ignore[import-untyped]
import hyperframe.frame  # type: ignore[import-untyped]
from attrs import define
from purerpc.grpclib.config import GRPCConfiguration
from purerpc.grpclib.connection import GRPCConnection

from transport import events, heads
from transport.events import Event, MessageReceived
from transport.framing import FramingError
from transport.inbound import Inbound
from transport.limits import HTTP2_DEFAULT_WINDOW, Limits
from transport.rpc_status import Metadata, Status, StatusCode

__all__ = ["Connection", "ResetCode", "StreamGone"]

ResetCode = h2.errors.ErrorCodes

_Handled = tuple[list[Any], list[Any]]  # frames to answer with, events
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
    """

    MAX_INBOUND_FRAME_SIZE = 2**14  # h2 holds a frame until it is whole
    h2_connection: Any

    def __init__(self, *, client_side: bool, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._client_side = client_side
        self._streams: dict[int, _Stream] = {}
        self._refused_above = _UNLIMITED
        self._failed = False
        self._received_at = 0.0
        super().__init__(GRPCConfiguration(client_side, max_message_length=self._limits.max_message_bytes))
        h2_config = self.h2_connection.config
        h2_config.header_encoding = None  # a header that is no UTF-8 must not end the connection
        h2_config.validate_inbound_headers = False  # nor any other bad header: `heads` checks them
        self._h2 = self.h2_connection = _H2Connection(h2_config)
        self._set_h2_connection_local_settings()

    def _set_h2_connection_local_settings(self, max_streams: int | None = None) -> None:
        codes = h2.settings.SettingCodes
        self.h2_connection.local_settings = h2.settings.Settings(
            client=self._client_side,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.MAX_CONCURRENT_STREAMS: max_streams or self._limits.max_streams,
                codes.INITIAL_WINDOW_SIZE: self._limits.stream_window_bytes,
                codes.MAX_FRAME_SIZE: self.MAX_INBOUND_FRAME_SIZE,
                codes.MAX_HEADER_LIST_SIZE: self._limits.max_header_bytes,
            },
        )
        self.h2_connection.max_inbound_frame_size = self.MAX_INBOUND_FRAME_SIZE

    # ---- the connection as a whole

    def initiate_connection(self) -> None:
        """Send the preface and SETTINGS. To be called first, on either side."""
        self._h2.initiate_connection()
        # h2 would end the connection over one stream too many; we refuse that stream.
        self._set_h2_connection_local_settings(_UNLIMITED)
        self._h2.increment_flow_control_window(self._limits.connection_window_bytes - HTTP2_DEFAULT_WINDOW)

    def receive_data(self, data: bytes, at: float = 0.0) -> list[Event]:
        """Take what the socket gave at the time `at`; after `ConnectionFailed` nothing more is taken."""
        self._received_at = at
        if self._failed:
            return []
        try:
            found: list[Event] = super().receive_data(data)
            self._check_buffered_frame()
        except h2.exceptions.ProtocolError as error:
            self._failed = True
            self._streams.clear()
            return [events.ConnectionFailed(str(error) or type(error).__name__)]
        return found

    def _check_buffered_frame(self) -> None:
        """Refuse a frame that is too long while it comes in; h2 looks only once it is whole."""
        buffered = self._h2.incoming_buffer.data
        if len(buffered) >= 3 and int.from_bytes(buffered[:3], "big") > self.MAX_INBOUND_FRAME_SIZE:
            self._h2.fail(ResetCode.FRAME_SIZE_ERROR)
            raise h2.exceptions.FrameTooLargeError("a frame is longer than SETTINGS allow")

    @property
    def unsent_bytes(self) -> int:
        return len(self._h2._data_to_send)

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
        stream.inbound.take(message.data)
        return self._tell_credit(message.stream_id, stream)

    def acknowledge(self, message: MessageReceived) -> bool:
        """Let the peer send as much again as this message held; tells the same."""
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return False
        stream.inbound.credit(message.flow_length)
        return self._tell_credit(message.stream_id, stream)

    def _tell_credit(self, stream_id: int, stream: _Stream) -> bool:
        increment = stream.inbound.increment_due()
        if not increment or not self._h2.is_open(stream_id):
            return False
        self._h2.increment_flow_control_window(increment, stream_id)
        return True

    # ---- sending on a stream

    def sendable(self, stream_id: int) -> int:
        """Bytes that both windows allow at this moment, in as many frames as it takes."""
        if stream_id not in self._streams:
            raise StreamGone(stream_id)
        window: int = self._h2.local_flow_control_window(stream_id)
        return max(0, window)  # new SETTINGS may shrink it below nothing

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """Send as much as the windows allow; gives the number of bytes, 0 when they are shut."""
        allowed = min(self.sendable(stream_id), len(data))
        frame_size: int = self._h2.max_outbound_frame_size
        for start in range(0, allowed, frame_size):
            self._h2.send_data(stream_id, data[start : min(start + frame_size, allowed)])
        return allowed

    def reset(self, stream_id: int, code: int = ResetCode.CANCEL) -> None:
        """Drop a stream at once; no error when it is over already."""
        if self._streams.pop(stream_id, None) is not None and self._h2.is_open(stream_id):
            self._h2.reset_stream(stream_id, code)

    # ---- the server's side

    def start_response(self, stream_id: int, metadata: Metadata = ()) -> None:
        """Send the initial metadata; once, before the first message."""
        stream = self._stream(stream_id)
        self._h2.send_headers(stream_id, heads.response_fields(metadata))
        stream.started = True

    def end_response(self, stream_id: int, status: Status, http_status: int = 200) -> None:
        """Answer with the status; what the client may still be sending is cut off without blame."""
        fields = heads.end_fields(status)
        if not self._stream(stream_id).started:
            fields = heads.response_fields((), http_status) + fields
        del self._streams[stream_id]
        if self._h2.is_open(stream_id):
            self._h2.send_headers(stream_id, fields, end_stream=True)
        if self._h2.is_open(stream_id):
            self._h2.reset_stream(stream_id, ResetCode.NO_ERROR)

    # ---- the client's side

    @property
    def can_start_request(self) -> bool:
        """Whether the server takes one more stream now."""
        return bool(self._h2.open_outbound_streams < self._h2.remote_settings.max_concurrent_streams)

    def start_request(
        self,
        path: str,
        *,
        authority: str,
        scheme: str = "http",
        metadata: Metadata = (),
        timeout_s: float | None = None,
    ) -> int:
        """Open a call and give its stream's id. Ask `can_start_request` first."""
        fields = heads.request_fields(path, authority, scheme, metadata, timeout_s)
        stream_id: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, fields)
        self._streams[stream_id] = _Stream(Inbound(self._limits))
        return stream_id

    def end_request(self, stream_id: int) -> None:
        """Say that the last message was sent; the response goes on."""
        self._stream(stream_id)
        self._h2.end_stream(stream_id)

    # ---- what purerpc's dispatch calls, one for each of h2's events

    def _request_received(self, event: Any) -> list[Event]:
        stream_id = event.stream_id
        self._streams[stream_id] = _Stream(Inbound(self._limits))
        if stream_id > self._refused_above or len(self._streams) > self._limits.max_streams:
            self.reset(stream_id, ResetCode.REFUSED_STREAM)
            return []
        try:
            head = heads.read_request(event.headers, self._limits.max_header_bytes)
        except heads.MalformedHead:
            self.reset(stream_id, ResetCode.PROTOCOL_ERROR)
            return []
        except heads.RefusedHead as refused:
            self.end_response(stream_id, refused.status, refused.http_status)
            return []
        self._streams[stream_id].inbound = Inbound(self._limits, head.encoding)
        return [events.RequestStarted(stream_id, head.path, head.authority, head.metadata, head.timeout_s)]

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
        stream.inbound = Inbound(self._limits, head.encoding)
        return [events.ResponseStarted(event.stream_id, head.metadata)]

    def _trailers_received(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None or not self._client_side:
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
            messages = stream.inbound.feed(event.data, flow_length)
        except FramingError as error:
            return self._fail(stream_id, Status(error.code, str(error)))
        self._tell_credit(stream_id, stream)
        return [MessageReceived(stream_id, data, held, self._received_at) for data, held in messages]

    def _stream_ended(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return []
        if not self._client_side and not stream.inbound.inside_message:
            return [events.HalfClosed(event.stream_id)]
        return self._fail(event.stream_id, Status(StatusCode.DATA_LOSS, "the stream ended before its time"))

    def _stream_reset(self, event: Any) -> list[Event]:
        if self._streams.pop(event.stream_id, None) is None:
            return []
        return [events.StreamReset(event.stream_id, int(event.error_code), bool(event.remote_reset))]

    def _window_updated(self, event: Any) -> list[Event]:
        return [events.WindowOpened(event.stream_id)]

    def _remote_settings_changed(self, event: Any) -> list[Event]:
        return [events.SettingsReceived(), events.WindowOpened(0)]

    def _ping_acknowledged(self, event: Any) -> list[Event]:
        return [events.PingAcknowledged(event.ping_data)]

    def _connection_terminated(self, event: Any) -> list[Event]:
        reason = (event.additional_data or b"").decode("utf-8", "replace")
        return [events.GoAway(event.last_stream_id, int(event.error_code), reason)]

    # ---- ends

    def _finish(self, stream_id: int, status: Status) -> list[Event]:
        """The server has said its last word; a request that is still being sent ends with it."""
        self.reset(stream_id, ResetCode.NO_ERROR)
        return [events.ResponseEnded(stream_id, status)]

    def _fail(self, stream_id: int, status: Status) -> list[Event]:
        """The peer broke gRPC's rules on this stream: tell it, and whoever is using the stream."""
        if not self._client_side:
            self.end_response(stream_id, status)
            return [events.StreamFailed(stream_id, status)]
        self.reset(stream_id, ResetCode.CANCEL)
        return [events.ResponseEnded(stream_id, status)]

    def _stream(self, stream_id: int) -> _Stream:
        try:
            return self._streams[stream_id]
        except KeyError:
            raise StreamGone(stream_id) from None


class _H2Connection(h2.connection.H2Connection):
    """h2 3.2 with its faults of scope mended: a stream's error stays the stream's."""

    MAX_CLOSED_STREAMS = 1024

    def is_open(self, stream_id: int) -> bool:
        stream = self.streams.get(stream_id)
        return stream is not None and stream.open

    def credit_connection(self, size: int) -> None:
        increment = self._inbound_flow_control_window_manager.process_bytes(size)
        if increment:
            frame = hyperframe.frame.WindowUpdateFrame(0, window_increment=increment)
            self._prepare_for_sending([frame])

    def announce_end(self, code: int, last_stream_id: int, reason: bytes) -> None:
        """Send GOAWAY and stay open; h2's own would forbid every frame after it."""
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code, additional_data=reason)
        self._prepare_for_sending([frame])

    def fail(self, code: int) -> None:
        self._terminate_connection(code)

    def _receive_goaway_frame(self, frame: Any) -> _Handled:
        """Tell of it and go on: streams up to the last one named still have their answers to come."""
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data
        return [], [event]

    def _receive_window_update_frame(self, frame: Any) -> _Handled:
        """A late update for a stream that is over and forgotten is no error (RFC 9113, 5.1)."""
        try:
            return super()._receive_window_update_frame(frame)  # type: ignore[no-any-return]
        except h2.exceptions.StreamClosedError:
            return [], []

    def _receive_headers_frame(self, frame: Any) -> _Handled:
        try:
            return super()._receive_headers_frame(frame)  # type: ignore[no-any-return]
        except (h2.exceptions.StreamClosedError, h2.exceptions.StreamIDTooLowError):
            raise
        except h2.exceptions.ProtocolError as error:
            if isinstance(error.__context__, hpack.HPACKError) or frame.stream_id not in self.streams:
                raise  # the compression state is lost, or there is no stream to blame
            return self._reset_malformed(frame.stream_id)

    def _receive_data_frame(self, frame: Any) -> _Handled:
        try:
            return super()._receive_data_frame(frame)  # type: ignore[no-any-return]
        except h2.exceptions.InvalidBodyLengthError:
            self.credit_connection(frame.flow_controlled_length)
            return self._reset_malformed(frame.stream_id)

    def _reset_malformed(self, stream_id: int) -> _Handled:
        state = self.streams[stream_id].state_machine
        state.state = h2.stream.StreamState.CLOSED
        state.stream_closed_by = h2.stream.StreamClosedBy.SEND_RST_STREAM
        frame = hyperframe.frame.RstStreamFrame(stream_id, error_code=ResetCode.PROTOCOL_ERROR)
        event = h2.events.StreamReset()
        event.stream_id = stream_id
        event.error_code = ResetCode.PROTOCOL_ERROR
        event.remote_reset = False
        return [frame], [event]
