"""What a `Connection` tells its driver: small records, one for each thing that happened, not to be changed.

Rules kept here:
- An event carries facts, no behaviour, and nothing of purerpc or h2.
- After `ResponseEnded`, `StreamFailed` or `StreamReset` nothing more comes for that stream.
"""

from __future__ import annotations

from attrs import define, frozen

from transport.grpc.status import Metadata, Status

__all__ = [
    "ConnectionFailed",
    "Event",
    "GoAway",
    "HalfClosed",
    "MessageReceived",
    "PingAcknowledged",
    "RequestStarted",
    "ResponseEnded",
    "ResponseStarted",
    "SettingsAcknowledged",
    "SettingsReceived",
    "StreamFailed",
    "StreamReset",
    "WindowOpened",
]


class Event:
    """Any of the below."""

    __slots__ = ()


@frozen
class RequestStarted(Event):
    """A client opened a call; its headers were in order.

    Attributes:
      timeout_s: None when it set no deadline.
      accepted_encodings: Compressions that it takes, of those that we know.
    """

    stream_id: int
    path: str
    authority: str
    metadata: Metadata
    timeout_s: float | None
    accepted_encodings: frozenset[str] = frozenset()


@define  # not frozen: there is one for every message, and a frozen class takes three times as long to fill
class MessageReceived(Event):
    """One whole message, unread until `Connection.take`.

    Attributes:
      data: As it came, until somebody has inflated it.
      flow_length: What to acknowledge for it, in bytes of the stream's window.
      received_at: When its last byte was read from the socket, on `time.perf_counter`'s clock.
      encoding: What it was compressed with on its way; None for nothing.
    """

    stream_id: int
    data: bytes
    flow_length: int
    received_at: float = 0.0
    encoding: str | None = None


@frozen
class HalfClosed(Event):
    """The client has sent its last message (server side only)."""

    stream_id: int


@frozen
class ResponseStarted(Event):
    """The server's initial metadata (client side only)."""

    stream_id: int
    metadata: Metadata


@frozen
class ResponseEnded(Event):
    """The call is over, by the server's word or by a fault found here (client side only)."""

    stream_id: int
    status: Status


@frozen
class StreamReset(Event):
    """The stream is gone. `remote` is False when it broke HTTP/2's rules and was reset from here."""

    stream_id: int
    code: int
    remote: bool


@frozen
class StreamFailed(Event):
    """The client broke gRPC's rules; it has been answered with `status` (server side only)."""

    stream_id: int
    status: Status


@frozen
class WindowOpened(Event):
    """More may be sent on this stream; 0 means on any."""

    stream_id: int


@frozen
class SettingsReceived(Event):
    """The peer speaks HTTP/2 and has said, or changed, what it accepts."""


@frozen
class SettingsAcknowledged(Event):
    """The peer has read our SETTINGS."""


@frozen
class PingAcknowledged(Event):
    """The answer to a ping, with the eight bytes it was sent with."""

    data: bytes


@frozen
class GoAway(Event):
    """The peer takes no new streams; those above `last_stream_id` were not looked at."""

    last_stream_id: int
    code: int
    reason: str


@frozen
class ConnectionFailed(Event):
    """The peer broke HTTP/2 itself. A GOAWAY is ready to be sent; then the connection is to be closed."""

    reason: str
