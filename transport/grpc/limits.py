"""All bounds of the transport in one place, each with its purpose.

Rules kept here:
- Nothing in this package grows beyond a limit defined here.
- A peer may send 65,535 bytes before it has read our SETTINGS, so no window is smaller than that.
- A timeout of 0 disables it.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

__all__ = ["HTTP2_DEFAULT_WINDOW", "Limits"]

HTTP2_DEFAULT_WINDOW = 65_535


@frozen(kw_only=True)
class Limits:
    """Sizes, rates and timeouts of one connection.

    Attributes:
      stream_window_bytes: Bytes that a peer may send on one stream before its messages are taken.
      connection_window_bytes: Bytes that a peer may send before we credit them; credited on arrival, so no stream can
        use it up.
      max_message_bytes: Size of one message, both as sent and inflated; beyond it, RESOURCE_EXHAUSTED on that stream.
      max_unread_messages: Unread messages on one stream. The window bounds their bytes; this bounds the number of
        objects for tiny ones: only messages under 64 bytes reach it inside the default window.
      large_messages_bytes: Bytes that messages may hold beyond their streams' windows, over all connections that
        share a `ByteBudget`; beyond it, RESOURCE_EXHAUSTED on the stream that asks for more.
      max_streams: Concurrent calls on one connection; more are refused, safe to retry.
      max_header_bytes: Size of one header block as HTTP/2 counts it; beyond it, RESOURCE_EXHAUSTED on that stream;
        beyond four times that, the end of the connection.
      max_connections: Concurrent connections of one server; more are refused.
      high_water_bytes: Unsent bytes above which senders wait.
      read_bytes, turn_frames: Bytes read from one connection, and frames handled, before every other task runs.
      control_frames_per_s, control_frames_burst: Frames that carry nothing (pings, settings, priorities, empty
        DATA, window updates), beyond those that the traffic itself earns; beyond it, ENHANCE_YOUR_CALM.
      broken_streams_per_s, broken_streams_burst: Calls that a client resets, or that are refused for a fault in them,
        beyond those that end well; beyond it, ENHANCE_YOUR_CALM.
      tls_handshake_timeout_s: From accepting a connection to the end of its handshake.
      preface_timeout_s: Until a peer's first SETTINGS.
      settings_timeout_s: From there until it acknowledges our SETTINGS.
      frame_timeout_s: Time for one frame, or one header block, to arrive.
      message_timeout_s: Time for one message to arrive, or for half a window of a larger one; it runs only while the
        window is open. A unary request has this time from its call's start, and once more for its end.
      idle_timeout_s: Time without a call after which a server closes the connection.
      keepalive_interval_s: Silence after which the peer is pinged; a client pings only while it has calls. Servers
        on gRPC's C core treat a client's pings more often than every 300 s as a flood.
      keepalive_timeout_s: Time for a sign of life after a ping.
      write_timeout_s: Time after which a connection whose peer accepts no bytes is ended, and a call whose window
        stays shut.
      linger_timeout_s: Time for which a connection that we end is still read, so that our last frames reach a peer
        that is still sending.
    """

    stream_window_bytes: int = field(default=256 * 1024, validator=ge(HTTP2_DEFAULT_WINDOW))
    connection_window_bytes: int = field(default=16 * 1024 * 1024, validator=gt(HTTP2_DEFAULT_WINDOW))
    max_message_bytes: int = field(default=32 * 1024 * 1024, validator=gt(0))
    max_unread_messages: int = field(default=4096, validator=gt(0))
    large_messages_bytes: int = field(default=256 * 1024 * 1024, validator=ge(0))
    max_streams: int = field(default=1000, validator=gt(0))
    max_header_bytes: int = field(default=16 * 1024, validator=gt(0))
    max_connections: int = field(default=1024, validator=gt(0))
    high_water_bytes: int = field(default=256 * 1024, validator=gt(0))

    read_bytes: int = field(default=32 * 1024, validator=gt(0))
    turn_frames: int = field(default=64, validator=gt(0))
    control_frames_per_s: float = field(default=200.0, validator=gt(0))
    control_frames_burst: int = field(default=2000, validator=gt(0))
    broken_streams_per_s: float = field(default=100.0, validator=gt(0))
    broken_streams_burst: int = field(default=1000, validator=gt(0))

    tls_handshake_timeout_s: float = field(default=10.0, validator=ge(0))
    preface_timeout_s: float = field(default=10.0, validator=ge(0))
    settings_timeout_s: float = field(default=10.0, validator=ge(0))
    frame_timeout_s: float = field(default=30.0, validator=ge(0))
    message_timeout_s: float = field(default=60.0, validator=ge(0))
    idle_timeout_s: float = field(default=300.0, validator=ge(0))
    keepalive_interval_s: float = field(default=60.0, validator=ge(0))
    keepalive_timeout_s: float = field(default=20.0, validator=ge(0))
    write_timeout_s: float = field(default=60.0, validator=ge(0))
    linger_timeout_s: float = field(default=1.0, validator=ge(0))
