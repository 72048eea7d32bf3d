"""What keeps one peer from using up what all share: token buckets in time, and a budget of bytes.

Rules kept here:
- Nothing here knows a clock or a connection: times come in, answers go out.
- A bucket is never fuller than its burst, a budget never lower than nothing.
"""

from __future__ import annotations

from transport.grpc.limits import Limits

__all__ = ["ByteBudget", "FloodGuard", "TokenBucket"]

_DATA = 0
_END_STREAM, _PADDED = 0x1, 0x8
_MOST_PADDING = 256
_COSTS = {
    1: 0.0,  # HEADERS: what they start or end is counted
    4: 10.0,  # SETTINGS: to be answered, and applied to every stream
    5: 0.0,  # PUSH_PROMISE: refused
    9: 0.0,  # CONTINUATION: counted with its block
}
"""By the number of the frame's kind; all others cost 1."""


class TokenBucket:
    """Tokens that come with time, and with whatever else earns them, up to a burst.

    Args:
      per_s: Tokens a second.
      burst: How many it holds; it starts full.
    """

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def spend(self, tokens: float, at: float) -> bool:
        """Take tokens at the time `at`, in seconds; False when there are not so many left."""
        if at > self._at:
            self._tokens = min(self._burst, self._tokens + (at - self._at) * self._per_s)
            self._at = at
        if tokens > self._tokens:
            return False
        self._tokens = min(self._burst, self._tokens - tokens)
        return True

    def earn(self, tokens: float) -> None:
        """Put tokens in."""
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + tokens)


class ByteBudget:
    """Bytes that many connections share.

    Attributes:
      limit_bytes: How many there are.
      used_bytes: How many are drawn now.
    """

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def draw(self, size: int) -> bool:
        """Take so many bytes; False, and nothing taken, when there are not so many."""
        if self.used_bytes + size > self.limit_bytes:
            return False
        self.used_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Return what was drawn."""
        assert 0 <= size <= self.used_bytes
        self.used_bytes -= size


class FloodGuard:
    """What one peer pays for frames that carry nothing, and for calls that come to nothing.

    A frame that carries something earns a few that do not: so a peer may acknowledge all that it is sent and
    ping for each message, however fast they go, but not faster.
    """

    __slots__ = ("_broken", "_control")

    def __init__(self, limits: Limits) -> None:
        self._control = TokenBucket(limits.control_frames_per_s, limits.control_frames_burst)
        self._broken = TokenBucket(limits.broken_streams_per_s, limits.broken_streams_burst)

    def admits(self, kind: int, flags: int, length: int, at: float) -> bool:
        """Whether a frame that has come may be looked at."""
        if kind != _DATA:
            cost = _COSTS.get(kind, 1.0)
        elif length > (_MOST_PADDING if flags & _PADDED else 0):
            cost = -1.0
        else:
            cost = 0.0 if flags & _END_STREAM else 1.0
        return self._control.spend(cost, at)

    def data_came(self) -> None:
        """A frame that carries something."""
        self._control.earn(1)

    def data_went(self) -> None:
        """The peer has something to acknowledge: on its stream and on the connection."""
        self._control.earn(2)

    def breaks(self, at: float, price: float = 1) -> bool:
        """Whether the peer may break off, or spoil, one more call."""
        return self._broken.spend(price, at)

    def call_ended(self) -> None:
        """A call was answered."""
        self._broken.earn(1)
        self._control.earn(2)
