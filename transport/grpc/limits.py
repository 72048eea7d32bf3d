"""Every bound of the transport in one place, each with what it protects.

Rules kept here:
- Nothing in this package grows past a number that stands here.
- A peer may use 65,535 bytes before it has read our SETTINGS, so no window is smaller than that.
- A timeout of 0 means never.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

__all__ = ["HTTP2_DEFAULT_WINDOW", "Limits"]

HTTP2_DEFAULT_WINDOW = 65_535


@frozen(kw_only=True)
class Limits:
    """What one connection may hold and how long it may wait.

    Attributes:
      stream_window_bytes: What a client may send on one stream before its messages are taken.
      connection_window_bytes: Room for frames on their way; credited on arrival, so no stream can use it up.
      max_message_bytes: One message, as sent and inflated; more is RESOURCE_EXHAUSTED on that stream.
      max_unread_messages: Messages that wait on one stream. The window bounds their bytes, this bounds the
        objects made of tiny ones: it takes messages under 64 bytes to reach it inside the default window.
      large_messages_bytes: What messages may hold beyond their streams' windows, over all connections that
        share a `ByteBudget`; more is RESOURCE_EXHAUSTED on the stream that asks for it.
      max_streams: Calls at a time on one connection; more are refused, safe to retry.
      max_header_bytes: One header block as HTTP/2 counts it; more is RESOURCE_EXHAUSTED on that stream, more
        than four times that the end of the connection.
      max_connections: Connections at a time on one server; more are turned away.
      high_water_bytes: Unsent bytes above which senders wait.
      read_bytes, turn_frames: Of one connection, no more than this is read, and no more frames are handled, before
        every other task had its turn.
      control_frames_per_s, control_frames_burst: Frames that carry nothing (pings, settings, priorities, empty
        DATA, window updates), beyond those that the traffic itself earns; more is ENHANCE_YOUR_CALM.
      broken_streams_per_s, broken_streams_burst: Calls that a client resets, or that are refused for what is
        wrong with them, beyond those that end well; more is ENHANCE_YOUR_CALM.
      tls_handshake_timeout_s: From accepting a connection to the end of its handshake.
      preface_timeout_s: How long a peer may take to say that it speaks HTTP/2.
      settings_timeout_s: How long it may then take to acknowledge our SETTINGS.
      frame_timeout_s: How long one frame, or one block of headers, may take to come in.
      message_timeout_s: How long one message may take to come in, or half a window of it if it is larger; only
        while the window is open. A request that is one message is waited for from its call's start, then as long for
        its end.
      idle_timeout_s: A server closes a connection that has had no call for so long.
      keepalive_interval_s: After so long without a byte a peer is pinged; a client does so only while it has
        calls. Servers that stand on gRPC's C core take a client's pings more often than every 300 s for a flood.
      keepalive_timeout_s: How long it may take to show a sign of life after a ping.
      write_timeout_s: A peer that accepts nothing for so long is cut; a call whose window stays shut, ended.
      linger_timeout_s: How long a connection that we end is read, so that our last frames reach a peer that is
        still sending.
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
