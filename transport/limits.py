"""Every bound of the transport in one place, each with what it protects.

Rules kept here:
- Nothing in this package grows past a number that stands here.
- A peer may use 65,535 bytes before it has read our SETTINGS, so no window is smaller than that.
"""

from attrs import field, frozen
from attrs.validators import ge, gt

__all__ = ["HTTP2_DEFAULT_WINDOW", "Limits"]

HTTP2_DEFAULT_WINDOW = 65_535


@frozen(kw_only=True)
class Limits:
    """What one connection may hold and how long it may wait; a timeout of 0 means never.

    Attributes:
      stream_window_bytes: What a client may send on one stream before its messages are taken.
      connection_window_bytes: Room for frames on their way; credited on arrival, so no stream can use it up.
      max_message_bytes: One message, as sent and inflated; more is RESOURCE_EXHAUSTED on that stream.
      max_unread_messages: Messages that wait on one stream. The window bounds their bytes, this bounds the
        objects made of tiny ones: it takes messages under 64 bytes to reach it inside the default window.
      max_streams: Calls at a time on one connection; more are refused, safe to retry.
      max_header_bytes: One header block as HTTP/2 counts it; more is RESOURCE_EXHAUSTED on that stream.
      high_water_bytes: Unsent bytes above which senders wait.
      write_timeout_s: A peer that accepts nothing for so long is cut; a call whose window stays shut, ended.
      preface_timeout_s: How long a peer may take to say that it speaks HTTP/2.
      max_connections: Connections at a time on one server; more are turned away.
    """

    stream_window_bytes: int = field(default=256 * 1024, validator=ge(HTTP2_DEFAULT_WINDOW))
    connection_window_bytes: int = field(default=16 * 1024 * 1024, validator=gt(HTTP2_DEFAULT_WINDOW))
    max_message_bytes: int = field(default=32 * 1024 * 1024, validator=gt(0))
    max_unread_messages: int = field(default=4096, validator=gt(0))
    max_streams: int = field(default=1000, validator=gt(0))
    max_header_bytes: int = field(default=16 * 1024, validator=gt(0))
    high_water_bytes: int = field(default=256 * 1024, validator=gt(0))
    write_timeout_s: float = field(default=60.0, validator=ge(0))
    preface_timeout_s: float = field(default=10.0, validator=ge(0))
    max_connections: int = field(default=1024, validator=gt(0))
