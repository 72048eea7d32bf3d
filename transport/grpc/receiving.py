"""The receiving direction of a `Connection`: turns h2's events into ours, and opens and ends streams.

Rules kept here:
- `ReceivingHalf` and `Connection` are one class in two modules, cut by direction (see `connection`); neither is used
  without the other.
- This is the only module that uses inner names of purerpc (the methods that its `receive_data` calls).
- What one stream does wrong ends that stream; only a breach of HTTP/2 itself, or a flood, ends the connection.
- The connection's window is credited when bytes arrive, a stream's when its consumer acknowledges them (see
  `flow_control`), so a stalled stream does not stall others.
- h2 has handled all frames of a turn before its events are seen here, so a stream may be closed by then.
- Nothing is kept of a stream that has ended.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from purerpc.grpclib.config import GRPCConfiguration
from purerpc.grpclib.connection import GRPCConnection

from transport.grpc import events, headers
from transport.grpc.events import Event, MessageReceived
from transport.grpc.flow_control import InboundFlow
from transport.grpc.framing import FramingError
from transport.grpc.http2 import Http2, ResetCode, release
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.status import Status, StatusCode

__all__ = ["ReceivingHalf", "StreamGone"]

_UNLIMITED = 2**31 - 1


class StreamGone(Exception):
    """The stream has ended or was reset; no operation is possible on it."""


@define
class _Stream:
    inbound: InboundFlow
    started: bool = False  # True once the response's initial metadata was sent (server) or received (client)


class ReceivingHalf(GRPCConnection):
    """The receiving half of a `Connection`, which documents the arguments."""

    h2_connection: Http2

    def __init__(
        self, *, client_side: bool, limits: Limits | None = None, budget: ByteBudget | None = None, large: bool = True
    ) -> None:
        self._limits = limits or Limits()
        self._budget = budget or ByteBudget(self._limits.large_messages_bytes)
        self._large = large
        self.client_side = client_side
        self._streams: dict[int, _Stream] = {}
        self._refused_above = _UNLIMITED
        self._failed = False
        self._at = 0.0
        self._received_at = 0.0
        self._late: list[Event] = []
        super().__init__(GRPCConfiguration(client_side, max_message_length=self._limits.max_message_bytes))
        release(self.h2_connection)  # replaced by ours
        self._h2 = self.h2_connection = Http2(self._limits, client_side=client_side)
        self._h2.pauses_after_headers = not large

    # ---- called by purerpc's `receive_data`, one for each kind of h2 event

    def _request_received(self, event: Any) -> list[Event]:
        stream_id = event.stream_id
        self._open(stream_id)
        if stream_id > self._refused_above or len(self._streams) > self._limits.max_streams:
            self._refuse(stream_id, ResetCode.REFUSED_STREAM)
            return []
        try:
            head = headers.read_request(event.headers, self._limits.max_header_bytes)
        except headers.MalformedHeaders:
            self._refuse(stream_id, ResetCode.PROTOCOL_ERROR)
            return []
        except headers.RefusedHeaders as refused:
            self.end_response(stream_id, refused.status, refused.http_status)
            self._charge(answered=True)
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
            head = headers.read_response(event.headers, self._limits.max_header_bytes)
        except headers.BadHeaders as bad:
            return self._fail(event.stream_id, bad.status)
        if head.status is not None:
            return self._finish(event.stream_id, head.status)
        stream.inbound = self._inbound(head.encoding)
        stream.started = True
        return [events.ResponseStarted(event.stream_id, head.metadata)]

    def _trailers_received(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None or not self.client_side:
            return []  # a client's trailers say nothing to gRPC; its END_STREAM follows
        try:
            status = headers.read_trailers(event.headers, self._limits.max_header_bytes)
        except headers.BadHeaders as bad:
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
        if self.client_side and not stream.started:
            return self._fail(stream_id, Status(StatusCode.INTERNAL, "the server sent data before the response's head"))
        try:
            messages = stream.inbound.feed(event.data, flow_length, self._at)
        except FramingError as error:
            return self._fail(stream_id, Status(error.code, str(error)))
        self._send_credit(stream_id, stream)
        found: list[Event] = []
        for content, held, encoding in messages:  # usually one; a comprehension would cost a function call
            found.append(MessageReceived(stream_id, content, held, self._received_at, encoding))
        return found

    def _stream_ended(self, event: Any) -> list[Event]:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return []
        if not self.client_side and not stream.inbound.inside_message:
            stream.inbound.since = None
            return [events.HalfClosed(event.stream_id)]
        return self._fail(event.stream_id, Status(StatusCode.DATA_LOSS, "the stream ended too early"))

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

    def reset(self, stream_id: int, code: int = ResetCode.CANCEL) -> None:
        """Reset a stream at once; does nothing if it has ended already."""
        if self._forget(stream_id) and self._h2.is_open(stream_id):
            self._h2.reset_stream(stream_id, code)
            self._h2.retire(stream_id)

    def end_response(self, stream_id: int, status: Status, http_status: int = 200) -> None:
        """End the call with this status; a client that is still sending is stopped by a reset with NO_ERROR.

        Server side only. Answers that this class itself gives to invalid calls go through here too.
        """
        fields = headers.trailer_fields(status)
        if not self._stream(stream_id).started:
            fields = headers.response_fields((), http_status) + fields
        self._forget(stream_id)
        if self._h2.is_open(stream_id):
            self._h2.send_headers(stream_id, fields, end_stream=True)
        if self._h2.is_open(stream_id):
            self._h2.reset_stream(stream_id, ResetCode.NO_ERROR)
        self._h2.retire(stream_id)
        self._h2.guard.call_ended()

    def _open(self, stream_id: int) -> None:
        self._streams[stream_id] = _Stream(self._inbound(None))

    def _inbound(self, encoding: str | None) -> InboundFlow:
        return InboundFlow(self._limits, self._budget, encoding, large=self._large)

    def _refuse(self, stream_id: int, code: int) -> None:
        self.reset(stream_id, code)
        self._charge()

    def _charge(self, *, answered: bool = False) -> None:
        """Charge a client for a call that it reset or that was refused; if answered, also for what that earned."""
        if not self.client_side and not self._h2.guard.breaks(self._at, 1 + answered):
            self._h2.fail(ResetCode.ENHANCE_YOUR_CALM, "too many calls reset or refused")

    def _forget(self, stream_id: int) -> bool:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return False
        stream.inbound.close()
        return True

    def _finish(self, stream_id: int, status: Status) -> list[Event]:
        """Report the server's status; a request that is still being sent is reset."""
        self.reset(stream_id, ResetCode.NO_ERROR)
        return [events.ResponseEnded(stream_id, status)]

    def _fail(self, stream_id: int, status: Status) -> list[Event]:
        """End a stream on which the peer broke gRPC's rules: answer or reset it, and report its end."""
        if not self.client_side:
            self.end_response(stream_id, status)
            self._charge(answered=True)
            return [events.StreamFailed(stream_id, status)]
        self.reset(stream_id, ResetCode.CANCEL)
        return [events.ResponseEnded(stream_id, status)]

    def _stream(self, stream_id: int) -> _Stream:
        try:
            return self._streams[stream_id]
        except KeyError:
            raise StreamGone(stream_id) from None

    def _send_credit(self, stream_id: int, stream: _Stream) -> bool:
        increment = stream.inbound.increment_due(self._at)
        if not increment or not self._h2.is_open(stream_id):
            return False
        self._h2.increment_flow_control_window(increment, stream_id)
        return True
