"""Events that a `Connection` reports to its driver: small records, never modified.

Rules kept here:
- An event carries facts and no behaviour, and nothing of purerpc or h2.
- `ResponseEnded`, `StreamFailed` or `StreamReset` is the last event of its stream.
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
    """Base class of the events below."""

    __slots__ = ()


@frozen
class RequestStarted(Event):
    """A client opened a call with valid headers.

    Attributes:
      timeout_s: Time until the call's deadline; None without a deadline.
      accepted_encodings: Compressions that the client accepts, of those that we know.
    """

    stream_id: int
    path: str
    authority: str
    metadata: Metadata
    timeout_s: float | None
    accepted_encodings: frozenset[str] = frozenset()


@define  # not frozen, because there is one for every message and a frozen class takes three times as long to fill
class MessageReceived(Event):
    """One whole message, unread until `Connection.take`.

    Attributes:
      data: The message as it was sent; inflated in the copy that `Stream.take` returns.
      flow_length: Number of bytes of the stream's window that the message holds until it is acknowledged.
      received_at: Time when its last byte was read from the socket, on `time.perf_counter`'s clock.
      encoding: Compression that it was sent with; None without compression.
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
    """The server ended the call, or a fault found here did (client side only)."""

    stream_id: int
    status: Status


@frozen
class StreamReset(Event):
    """The stream was reset. `remote` is False if this side reset it, because the peer broke HTTP/2's rules."""

    stream_id: int
    code: int
    remote: bool


@frozen
class StreamFailed(Event):
    """The client broke gRPC's rules or a limit; it has been answered with `status` (server side only)."""

    stream_id: int
    status: Status


@frozen
class WindowOpened(Event):
    """More may be sent on this stream; 0 means every stream."""

    stream_id: int


@frozen
class SettingsReceived(Event):
    """The peer sent its SETTINGS, for the first time or again."""


@frozen
class SettingsAcknowledged(Event):
    """The peer has acknowledged our SETTINGS."""


@frozen
class PingAcknowledged(Event):
    """The answer to a ping, with the ping's eight bytes."""

    data: bytes


@frozen
class GoAway(Event):
    """The peer accepts no new streams; it has not processed those above `last_stream_id`."""

    last_stream_id: int
    code: int
    reason: str


@frozen
class ConnectionFailed(Event):
    """The peer broke HTTP/2 itself, or a flood limit. Send the GOAWAY that is ready, then close the connection."""

    reason: str
