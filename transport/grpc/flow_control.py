"""What one stream has received and not yet handed on: messages counted, its window kept exact.

Rules kept here:
- At any moment: bytes the peer may send + bytes held + bytes credited but not told = the window.
- Bytes of an incomplete message that is larger than half the window are credited as they come, but only while no
  whole message waits before it: so a message may be larger than the window, and a stalled stream holds at most the
  window and one message.
- Whatever is kept beyond the window, which is those bytes, is drawn from a budget that all connections share, and given
  back when the message is taken or the stream is over. Until the stream may do so (`large`), nothing is.
- Credit is told in steps of half a window: one WINDOW_UPDATE for many messages, and never a dead stop.
"""

from __future__ import annotations

from transport.grpc.framing import PREFIX_BYTES, FramingError, MessageReader, Part
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.status import StatusCode

__all__ = ["InboundFlow"]


class InboundFlow:
    """One stream's side of the flow control.

    Args:
      budget: Of bytes beyond the windows.
      encoding: The peer's `grpc-encoding`, None for none.
      large: Whether the stream may draw on the budget; `allow_large` says so later.

    Attributes:
      since: When the incomplete message began, or half a window was last credited for it; None without one. Who
        has to have another message soon sets it before that.
    """

    __slots__ = (
        "_budget", "_credited", "_drawn", "_half_window", "_large", "_limits", "_reader", "_unsent_credit", "since",
        "unread_messages",
    )  # fmt: skip

    def __init__(self, limits: Limits, budget: ByteBudget, encoding: str | None = None, *, large: bool = True) -> None:
        self._limits = limits
        self._budget = budget
        self._large = large
        self._half_window = (limits.stream_window_bytes + 1) // 2
        self._reader = MessageReader(limits.max_message_bytes, encoding)
        self._credited = 0  # of the incomplete message
        self._drawn = 0
        self._unsent_credit = 0
        self.since: float | None = None
        self.unread_messages = 0

    @property
    def inside_message(self) -> bool:
        """Whether an end here would cut a message."""
        return self._reader.partial_bytes > 0

    def feed(self, data: bytes, flow_length: int, at: float = 0.0) -> list[Part]:
        """Take one frame; give whole messages, each with the bytes that it still holds of the window.

        Args:
          data: What the frame holds.
          flow_length: Its size with padding, which is credited at once.
          at: When it came.
        Raises:
          FramingError: the messages cannot be taken, or too much waits already.
        """
        self._unsent_credit += flow_length - len(data)
        messages = self._reader.feed(data)
        if messages and self._credited:
            content, size, encoding = messages[0]
            messages[0] = content, size - self._credited, encoding
            self._credited = 0
        self.unread_messages += len(messages)
        if self.unread_messages > self._limits.max_unread_messages:
            reason = f"more than {self._limits.max_unread_messages} messages wait to be read"
            raise FramingError(StatusCode.RESOURCE_EXHAUSTED, reason)
        if self._reader.partial_bytes:
            if messages or self.since is None:
                self.since = at
            self._credit_incomplete()
        elif messages:
            self.since = None
        return messages

    def _draw(self, size: int) -> None:
        if size < 0:
            self._budget.give_back(-size)
        elif not self._large and self._drawn + size > self._limits.stream_window_bytes:
            raise FramingError(StatusCode.RESOURCE_EXHAUSTED, "a message is too large for a call not yet admitted")
        elif not self._budget.draw(size):
            reason = "too many large messages are on their way to this server; try again later"
            raise FramingError(StatusCode.RESOURCE_EXHAUSTED, reason)
        self._drawn += size

    def take(self, data: bytes, flow_length: int, *, done: bool = False) -> None:
        """A message has been read; its bytes stay held until `credit`, unless its consumer is done with it.

        Raises:
          FramingError: the budget has no room for the next one, which has begun.
        """
        self.unread_messages -= 1
        if credited := PREFIX_BYTES + len(data) - flow_length:
            self._draw(-credited)
        if self._reader.partial_bytes:
            self._credit_incomplete()
        if done:
            self._unsent_credit += flow_length

    def allow_large(self) -> None:
        """From now on the stream may draw on the budget; raises as `take` does."""
        self._large = True
        self._credit_incomplete()

    def close(self) -> None:
        """The stream is over: give back what it has drawn."""
        self._budget.give_back(self._drawn)
        self._drawn = self._credited = 0

    def credit(self, flow_length: int) -> None:
        """The consumer is done with so many bytes."""
        self._unsent_credit += flow_length

    def _credit_incomplete(self) -> None:
        reader = self._reader
        if self.unread_messages or not self._large or reader.needed_bytes * 2 <= self._limits.stream_window_bytes:
            return
        more = reader.partial_bytes - self._credited
        if more:
            self._draw(more)
            self._unsent_credit += more
            self._credited += more

    def increment_due(self, at: float | None = None) -> int:
        """What to tell the peer now, or 0 while it is less than half of the window."""
        if self._unsent_credit < self._half_window:
            return 0
        due, self._unsent_credit = self._unsent_credit, 0
        if self.since is not None and at is not None:
            self.since = at
        return due
