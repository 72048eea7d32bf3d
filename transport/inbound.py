"""What one stream has received and not yet handed on: messages counted, its window kept exact.

Rules kept here:
- At any moment: bytes the peer may send + bytes held + bytes credited but not told = the window.
- Bytes of an incomplete message are credited as they come, but only while no whole message waits before it:
  so a message may be larger than the window, and a stalled stream holds at most the window and one message.
- Credit is told in steps of half a window: one WINDOW_UPDATE for many messages, and never a dead stop.
"""

from transport.framing import FramingError, MessageReader
from transport.limits import Limits
from transport.rpc_status import StatusCode

__all__ = ["Inbound"]


class Inbound:
    """One stream's side of the flow control.

    Args:
      encoding: The peer's `grpc-encoding`, None for none.
    """

    __slots__ = ("_credited", "_limits", "_reader", "_untold", "unread_bytes", "unread_messages")

    def __init__(self, limits: Limits, encoding: str | None = None) -> None:
        self._limits = limits
        self._reader = MessageReader(limits.max_message_bytes, encoding)
        self._credited = 0  # of the incomplete message
        self._untold = 0
        self.unread_messages = 0
        self.unread_bytes = 0

    @property
    def inside_message(self) -> bool:
        """Whether an end here would cut a message."""
        return self._reader.partial_bytes > 0

    def feed(self, data: bytes, flow_length: int) -> list[tuple[bytes, int]]:
        """Take one frame; give whole messages, each with the bytes that it still holds of the window.

        Args:
          data: What the frame holds.
          flow_length: Its size with padding, which is credited at once.
        Raises:
          FramingError: the messages cannot be taken, or too much waits already.
        """
        self._untold += flow_length - len(data)
        messages = []
        for content, size in self._reader.feed(data):
            messages.append((content, size - self._credited))
            self._credited = 0
            self.unread_messages += 1
            self.unread_bytes += len(content)
        self._check_unread()
        self._credit_incomplete()
        return messages

    def _check_unread(self) -> None:
        limits = self._limits
        if self.unread_messages > limits.max_unread_messages:
            reason = f"more than {limits.max_unread_messages} messages wait to be read"
        elif self.unread_bytes > limits.stream_window_bytes + limits.max_message_bytes:
            reason = "the compressed messages that wait are too large, inflated"
        else:
            return
        raise FramingError(StatusCode.RESOURCE_EXHAUSTED, reason)

    def take(self, data: bytes) -> None:
        """A message has been read; its bytes stay held until `credit`."""
        self.unread_messages -= 1
        self.unread_bytes -= len(data)
        self._credit_incomplete()

    def credit(self, flow_length: int) -> None:
        """The consumer is done with so many bytes."""
        self._untold += flow_length

    def _credit_incomplete(self) -> None:
        if not self.unread_messages:
            self._untold += self._reader.partial_bytes - self._credited
            self._credited = self._reader.partial_bytes

    def increment_due(self) -> int:
        """What to tell the peer now, or 0 while it is less than half of the window."""
        if self._untold * 2 < self._limits.stream_window_bytes:
            return 0
        due, self._untold = self._untold, 0
        return due
