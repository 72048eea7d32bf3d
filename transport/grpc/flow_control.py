"""Receive-side flow control of one stream: unread messages counted, its window kept exact.

Rules kept here:
- At any moment: bytes the peer may send + bytes held + bytes credited but not yet sent as credit = the window.
- Bytes of an incomplete message larger than half the window are credited as they arrive, but only while no whole
  message is unread before it. So a message may be larger than the window, and a stalled stream holds at most the window
  and one message.
- Those bytes are all that is held beyond the window. They are drawn from a budget that all connections share, and given
  back when the message is taken or the stream is over. A stream that may not draw on the budget (`large`) gets none.
- Credit is sent in steps of at least half a window: one WINDOW_UPDATE for many messages, and no deadlock.
"""

from __future__ import annotations

from transport.grpc.framing import PREFIX_BYTES, FramingError, MessageReader, Part
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.status import StatusCode

__all__ = ["InboundFlow"]


class InboundFlow:
    """Receive side of one stream's flow control.

    Args:
      limits: Window and message sizes.
      budget: Budget for bytes beyond the windows.
      encoding: The peer's `grpc-encoding`; None without compression.
      large: True if the stream may draw on the budget; `allow_large` permits it later.

    Attributes:
      since: Time when the incomplete message began, or when credit was last sent during it; None without one.
        `Connection.expect_message` sets it before the message begins.
      unread_messages: Number of whole messages that have not been taken.
    """

    __slots__ = (
        "_budget", "_credited", "_drawn", "_half_window", "_large", "_limits", "_reader", "_unsent_credit",
        "since", "unread_messages",
    )  # fmt: skip

    def __init__(self, limits: Limits, budget: ByteBudget, encoding: str | None = None, *, large: bool = True) -> None:
        self._limits = limits
        self._budget = budget
        self._large = large
        self._half_window = (limits.stream_window_bytes + 1) // 2
        self._reader = MessageReader(limits.max_message_bytes, encoding)
        self._credited = 0  # bytes of the incomplete message
        self._drawn = 0  # bytes drawn from the budget
        self._unsent_credit = 0
        self.since: float | None = None
        self.unread_messages = 0

    @property
    def inside_message(self) -> bool:
        """True if the end of the stream would now cut a message."""
        return self._reader.partial_bytes > 0

    def feed(self, data: bytes, flow_length: int, at: float = 0.0) -> list[Part]:
        """Take one frame; return the whole messages, each with the bytes of the window that it still holds.

        Args:
          data: The frame's data, without padding.
          flow_length: Its size with padding; padding is credited at once.
          at: Time of arrival.
        Raises:
          FramingError: the messages cannot be accepted, or too many are unread already.
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
        """Note that a message was taken; it holds its bytes until `credit`, or not at all if `done`.

        Raises:
          FramingError: the budget has no room for the next message, which has begun.
        """
        self.unread_messages -= 1
        if credited := PREFIX_BYTES + len(data) - flow_length:
            self._draw(-credited)
        if self._reader.partial_bytes:
            self._credit_incomplete()
        if done:
            self._unsent_credit += flow_length

    def allow_large(self) -> None:
        """Permit the stream to draw on the budget; raises as `take` does."""
        self._large = True
        self._credit_incomplete()

    def close(self) -> None:
        """Give back what the stream has drawn, at its end."""
        self._budget.give_back(self._drawn)
        self._drawn = self._credited = 0

    def credit(self, flow_length: int) -> None:
        """Credit the bytes of a message that its consumer has acknowledged."""
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
        """Return the credit to send to the peer now, or 0 while it is less than half the window."""
        if self._unsent_credit < self._half_window:
            return 0
        due, self._unsent_credit = self._unsent_credit, 0
        if self.since is not None and at is not None:
            self.since = at
        return due
