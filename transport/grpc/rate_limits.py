"""Limits on one peer's use of shared resources: token buckets over time, and a budget of bytes.

Rules kept here:
- No clock and no connection: the caller passes the time in and acts on the answer.
- A bucket never holds more than its burst; a budget is never exceeded.
"""

from __future__ import annotations

from transport.grpc.limits import Limits

__all__ = ["ByteBudget", "FloodGuard", "TokenBucket"]

_DATA = 0
_END_STREAM, _PADDED = 0x1, 0x8
_MOST_PADDING = 256
_COSTS = {
    1: 0.0,  # HEADERS: the calls they start are counted instead
    4: 10.0,  # SETTINGS: answered, and applied to every stream
    5: 0.0,  # PUSH_PROMISE: refused
    9: 0.0,  # CONTINUATION: counted with its block
}
"""Cost by frame type; all others cost 1."""


class TokenBucket:
    """Tokens that accrue with time and by `earn`, up to a burst.

    Args:
      per_s: Tokens per second.
      burst: Capacity; the bucket starts full.
    """

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def spend(self, tokens: float, at: float) -> bool:
        """Take tokens at the time `at`, in seconds; return False, and take none, if too few are left."""
        if at > self._at:
            self._tokens = min(self._burst, self._tokens + (at - self._at) * self._per_s)
            self._at = at
        if tokens > self._tokens:
            return False
        self._tokens = min(self._burst, self._tokens - tokens)
        return True

    def earn(self, tokens: float) -> None:
        """Add tokens."""
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + tokens)


class ByteBudget:
    """Number of bytes shared by many connections.

    Attributes:
      limit_bytes: Size of the budget.
      used_bytes: Bytes drawn now.
    """

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def draw(self, size: int) -> bool:
        """Draw bytes; return False, and draw none, if too few are left."""
        if self.used_bytes + size > self.limit_bytes:
            return False
        self.used_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Give drawn bytes back."""
        assert 0 <= size <= self.used_bytes
        self.used_bytes -= size


class FloodGuard:
    """Rate limits on one peer's frames that carry nothing, and on its calls that are reset or refused.

    A frame that carries something earns a few that do not. So a peer may acknowledge everything it receives and ping
    once per message, at any rate of messages, but not more often.
    """

    __slots__ = ("_broken", "_control")

    def __init__(self, limits: Limits) -> None:
        self._control = TokenBucket(limits.control_frames_per_s, limits.control_frames_burst)
        self._broken = TokenBucket(limits.broken_streams_per_s, limits.broken_streams_burst)

    def admits(self, kind: int, flags: int, length: int, at: float) -> bool:
        """Charge a received frame; return False if it exceeds the limit."""
        if kind != _DATA:
            cost = _COSTS.get(kind, 1.0)
        elif length > (_MOST_PADDING if flags & _PADDED else 0):
            cost = -1.0
        else:
            cost = 0.0 if flags & _END_STREAM else 1.0
        return self._control.spend(cost, at)

    def data_came(self) -> None:
        """Earn for a received frame that carries something."""
        self._control.earn(1)

    def data_went(self) -> None:
        """Earn for a sent frame, which the peer acknowledges on its stream and on the connection."""
        self._control.earn(2)

    def breaks(self, at: float, price: float = 1) -> bool:
        """Charge for a call that was reset or refused; return False if that exceeds the limit."""
        return self._broken.spend(price, at)

    def call_ended(self) -> None:
        """Earn for a call that was answered."""
        self._broken.earn(1)
        self._control.earn(2)
