"""HTTP/2 on h2's connection, with stream errors confined to their stream, floods bounded and a fast path for DATA.

Rules kept here:
- Only this module, `receiving` (on purerpc's class) and `frame_buffer` (on hyperframe) use inner names of other
  packages; `tests/transport/test_inner_names.py` lists them and fails when one changes.
- What one stream does wrong ends that stream. A connection error is reported after all events before it.
- A plain DATA frame (no padding, no END_STREAM) on an open stream bypasses h2's state machines, because it would not
  change their state.
"""

from __future__ import annotations

import struct
from typing import Any

import h2.config  # type: ignore[import-untyped]
import h2.connection  # type: ignore[import-untyped]
import h2.errors  # type: ignore[import-untyped]
import h2.events  # type: ignore[import-untyped]
import h2.exceptions  # type: ignore[import-untyped]
import h2.settings  # type: ignore[import-untyped]
import h2.stream  # type: ignore[import-untyped]
import hpack  # type: ignore[import-untyped]
import hyperframe.frame  # type: ignore[import-untyped]

from transport.grpc.frame_buffer import FrameBuffer
from transport.grpc.hpack_integers import has_oversized_integer
from transport.grpc.limits import HTTP2_DEFAULT_WINDOW, Limits
from transport.grpc.rate_limits import FloodGuard

__all__ = ["Http2", "ResetCode", "release"]

ResetCode = h2.errors.ErrorCodes

_Handled = tuple[list[Any], list[Any]]  # frames to answer with, events
_UNLIMITED = 2**31 - 1
_MAX_FRAME_BYTES = 2**14
_HEADER_TABLE_BYTES = 4096
_KNOWN_SETTINGS = frozenset(range(1, 7))
_DATA_HEAD = struct.Struct(">HBxxI")  # length, no kind and no flags, stream
_DATA, _HEADERS = 0, 1
_PADDED_OR_END = 0x9
_RECEIVING = (h2.stream.StreamState.OPEN, h2.stream.StreamState.HALF_CLOSED_LOCAL)
_SENDING = (h2.stream.StreamState.OPEN, h2.stream.StreamState.HALF_CLOSED_REMOTE)


def release(connection: h2.connection.H2Connection) -> None:
    """Break the reference cycle of a connection that receives nothing more, so that it is freed without a GC pass.

    The cycle is h2's table of the connection's own bound methods.
    """
    connection._frame_dispatch_table.clear()


class Http2(h2.connection.H2Connection):
    """One side of a connection.

    Attributes:
      guard: The peer's allowance for frames that carry nothing and calls that come to nothing.
      failure: Reason of the connection's end; None before.
      pauses_after_headers: True to make `receive_data` return after a header block, so that the call is admitted or
        refused before its body is handled. The next block then waits until `feed` begins another turn.
    """

    MAX_CLOSED_STREAMS = 1024

    def __init__(self, limits: Limits, *, client_side: bool) -> None:
        # A header that is not UTF-8, or invalid otherwise, must not end the connection; `headers` checks them.
        config = h2.config.H2Configuration(
            client_side=client_side, header_encoding=None, validate_inbound_headers=False
        )
        super().__init__(config)
        self._limits = limits
        self.guard = FloodGuard(limits)
        self.failure: str | None = None
        self.pauses_after_headers = False
        self._call_began = False
        self.incoming_buffer = FrameBuffer(
            self.guard, server=not client_side, max_block_bytes=2 * limits.max_header_bytes
        )
        self.decoder.max_header_list_size = 4 * limits.max_header_bytes  # above this the connection is at fault
        self._apply_settings(limits.max_streams)

    def _apply_settings(self, max_streams: int) -> None:
        codes = h2.settings.SettingCodes
        self.local_settings = h2.settings.Settings(
            client=self.config.client_side,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.MAX_CONCURRENT_STREAMS: max_streams,
                codes.INITIAL_WINDOW_SIZE: self._limits.stream_window_bytes,
                codes.MAX_FRAME_SIZE: _MAX_FRAME_BYTES,
                codes.MAX_HEADER_LIST_SIZE: self._limits.max_header_bytes,
            },
        )
        self.max_inbound_frame_size = _MAX_FRAME_BYTES

    def start(self) -> None:
        """Send the preface and SETTINGS."""
        self.initiate_connection()
        # h2 would end the connection for one stream too many; `ReceivingHalf` refuses only that stream.
        self._apply_settings(_UNLIMITED)
        self.increment_flow_control_window(self._limits.connection_window_bytes - HTTP2_DEFAULT_WINDOW)

    # ---- receiving

    def feed(self, data: bytes, at: float, max_frames: int) -> None:
        """Take bytes and begin a turn, in which `receive_data` handles at most `max_frames` frames."""
        buffer = self.incoming_buffer
        self._call_began = False
        buffer.at, buffer.quota = at, max_frames
        if data:
            buffer.add_data(data)

    def receive_data(self, data: bytes) -> list[Any]:
        """Handle the buffered frames; instead of raising, an error of the connection sets `failure`."""
        found: list[Any] = []
        buffer: FrameBuffer = self.incoming_buffer
        try:
            while self.failure is None:
                length, kind, flags, stream_id = buffer.head()
                if length < 0 or (kind == _HEADERS and self._call_began):
                    break
                if kind == _DATA and length and not flags & _PADDED_OR_END and self._takes_data(stream_id):
                    found.append(self._receive_plain_data(stream_id, length))
                elif (frame := buffer.frame(length, kind, flags)) is not None:
                    found += self._receive_frame(frame)
                    if self.pauses_after_headers and frame.type == _HEADERS:
                        self._call_began = True
                        break
        except h2.exceptions.ProtocolError as error:
            self.fail(error.error_code, _reason(error))
        return found

    def _takes_data(self, stream_id: int) -> bool:
        """True if h2 would only count a DATA frame on this stream."""
        stream = self.streams.get(stream_id)
        if stream is None or stream._expected_content_length is not None:
            return False
        machine = stream.state_machine
        return machine.headers_received and machine.state in _RECEIVING

    def _receive_plain_data(self, stream_id: int, length: int) -> Any:
        stream = self.streams[stream_id]
        self._inbound_flow_control_window_manager.window_consumed(length)
        data = self.incoming_buffer.cut(length)
        self.guard.data_came()
        window = stream._inbound_window_manager
        if window.current_window_size < length:
            return self._overflow(stream_id, length)
        window.current_window_size -= length
        event = h2.events.DataReceived()
        event.stream_id, event.data, event.flow_controlled_length = stream_id, data, length
        return event

    def _overflow(self, stream_id: int, length: int) -> Any:
        self.credit_connection(length)
        frames, (event,) = self._reset_malformed(stream_id, ResetCode.FLOW_CONTROL_ERROR)
        self._prepare_for_sending(frames)
        return event

    def _receive_data_frame(self, frame: Any) -> _Handled:
        """Reset the stream, where h2 would end the connection: for a wrong content-length or an exceeded window."""
        stream, length = self.streams.get(frame.stream_id), frame.flow_controlled_length
        if stream is not None and stream.open and stream.inbound_flow_control_window < length:
            self._inbound_flow_control_window_manager.window_consumed(length)
            self.credit_connection(length)
            return self._reset_malformed(frame.stream_id, ResetCode.FLOW_CONTROL_ERROR)
        try:
            return super()._receive_data_frame(frame)  # type: ignore[no-any-return]
        except h2.exceptions.InvalidBodyLengthError:
            self.credit_connection(length)
            return self._reset_malformed(frame.stream_id)

    def _receive_headers_frame(self, frame: Any) -> _Handled:
        if has_oversized_integer(frame.data):
            raise h2.exceptions.ProtocolError("a block of headers has an integer of more than 32 bits")
        frame.flags.discard("PRIORITY")
        try:
            return super()._receive_headers_frame(frame)  # type: ignore[no-any-return]
        except (h2.exceptions.StreamClosedError, h2.exceptions.StreamIDTooLowError):
            raise
        except h2.exceptions.ProtocolError as error:
            if isinstance(error.__context__, hpack.HPACKError) or frame.stream_id not in self.streams:
                raise  # the compression state is lost, or there is no stream to blame
            return self._reset_malformed(frame.stream_id)

    def _receive_window_update_frame(self, frame: Any) -> _Handled:
        """Ignore a late update for a stream that is closed (RFC 9113, 5.1); reset the stream for an empty one."""
        if not frame.window_increment and self.is_open(frame.stream_id):
            return self._reset_malformed(frame.stream_id)
        try:
            return super()._receive_window_update_frame(frame)  # type: ignore[no-any-return]
        except h2.exceptions.StreamClosedError:
            return [], []

    def _receive_priority_frame(self, frame: Any) -> _Handled:
        """Ignore priorities, which RFC 9113 deprecates."""
        return [], []

    def _receive_settings_frame(self, frame: Any) -> _Handled:
        """Drop unknown settings, and cap the table for the headers we send at HTTP/2's default size."""
        frame.settings = {code: value for code, value in frame.settings.items() if code in _KNOWN_SETTINGS}
        table_size = h2.settings.SettingCodes.HEADER_TABLE_SIZE
        if table_size in frame.settings:
            frame.settings[table_size] = min(frame.settings[table_size], _HEADER_TABLE_BYTES)
        handled: _Handled = super()._receive_settings_frame(frame)
        if changes := self.encoder.table_size_changes:
            self.encoder.table_size_changes = sorted({min(changes), changes[-1]}, key=changes.index)
        return handled

    def _receive_goaway_frame(self, frame: Any) -> _Handled:
        """Report it and stay open, because streams up to the last one named still get their answers."""
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data
        return [], [event]

    def _reset_malformed(self, stream_id: int, code: int = ResetCode.PROTOCOL_ERROR) -> _Handled:
        state = self.streams[stream_id].state_machine
        state.state = h2.stream.StreamState.CLOSED
        state.stream_closed_by = h2.stream.StreamClosedBy.SEND_RST_STREAM
        frame = hyperframe.frame.RstStreamFrame(stream_id, error_code=code)
        event = h2.events.StreamReset()
        event.stream_id = stream_id
        event.error_code = code
        event.remote_reset = False
        return [frame], [event]

    def may_send(self, stream_id: int) -> bool:
        """True if the peer's window on this stream is open."""
        stream = self.streams.get(stream_id)
        return stream is not None and stream.inbound_flow_control_window > 0

    def credit_connection(self, size: int) -> None:
        """Credit received bytes to the connection's window; below half a window just count them, as h2 would."""
        window = self._inbound_flow_control_window_manager
        if window._bytes_processed + size < window.max_window_size // 2:
            window._bytes_processed += size
        elif increment := window.process_bytes(size):
            frame = hyperframe.frame.WindowUpdateFrame(0, window_increment=increment)
            self._prepare_for_sending([frame])

    # ---- sending

    @property
    def unsent_bytes(self) -> int:
        return len(self._data_to_send)

    def sendable(self, stream_id: int) -> int:
        """Return the number of bytes that both windows allow; new SETTINGS may have made a window negative."""
        stream = self.streams[stream_id]
        window: int = min(self.outbound_flow_control_window, stream.outbound_flow_control_window)
        return max(0, window)

    def send_message_data(self, stream_id: int, data: bytes | memoryview) -> None:
        """Send one DATA frame; the caller has checked that it fits both windows."""
        stream = self.streams[stream_id]
        machine = stream.state_machine
        if machine.state not in _SENDING or not machine.headers_sent:
            raise h2.exceptions.ProtocolError(f"stream {stream_id} cannot send data now")
        stream.outbound_flow_control_window -= len(data)
        self.outbound_flow_control_window -= len(data)
        self._data_to_send += _DATA_HEAD.pack(len(data) >> 8, len(data) & 0xFF, stream_id)
        self._data_to_send += data
        self.guard.data_went()

    # ---- streams and the end

    def is_open(self, stream_id: int) -> bool:
        stream = self.streams.get(stream_id)
        return stream is not None and stream.open

    @property
    def open_inbound_streams(self) -> int:
        """Always 0, because h2 would count and clean up all streams whenever one opens; `retire` cleans up here."""
        return 0

    def retire(self, stream_id: int) -> None:
        """Forget a closed stream, except how it was closed."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            del self.streams[stream_id]
            self._closed_streams[stream_id] = stream.closed_by

    def send_goaway(self, code: int, last_stream_id: int, reason: bytes) -> None:
        """Send GOAWAY and stay open; h2's own method would forbid every frame after it."""
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code, additional_data=reason)
        self._prepare_for_sending([frame])

    def fail(self, code: int, reason: str) -> None:
        """Send the last GOAWAY and stop receiving."""
        if self.failure is None:
            self.failure = reason
            self.send_goaway(code, self.highest_inbound_stream_id, reason.encode()[:200])


def _reason(error: h2.exceptions.ProtocolError) -> str:
    if isinstance(error.__context__, hpack.HPACKError):  # its message contains a memory address
        return f"a header block cannot be decoded: {type(error.__context__).__name__}"
    return str(error) or type(error).__name__
