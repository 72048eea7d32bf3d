"""When a quiet connection has to be looked at, and what is to be done with it then.

Rules kept here:
- No clock and no waiting: the driver says what time it is, and sleeps until the time it is given.
- A deadline that comes up later is never nearer than the shortest timeout, so one sleep of at most that
  misses none. Nothing is done for a message or a frame but to note when bytes came.
- Any byte is a sign of life; a ping is sent only after silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from attrs import frozen

from transport.grpc.limits import Limits

__all__ = ["Close", "ConnectionTimers", "Ping"]

_NO_ERROR = 0
_SETTINGS_TIMEOUT = 4
_ENHANCE_YOUR_CALM = 11


@frozen
class Ping:
    """Ask the peer for a sign of life."""


@frozen
class Close:
    """End the connection, telling the peer why with this HTTP/2 error code."""

    code: int
    reason: str


class ConnectionTimers:
    """One connection's times.

    Attributes:
      last_bytes_at: When bytes last came.
      settings_at: When the peer's SETTINGS came; None before.
      acknowledged: Whether the peer has acknowledged ours.
    """

    def __init__(self, limits: Limits, *, client_side: bool, at: float) -> None:
        self._limits = limits
        self._client_side = client_side
        self._began_at = self._idle_since = self.last_bytes_at = at
        self._calls_seen = 0
        self._pinged_at = -math.inf
        self.settings_at: float | None = None
        self.acknowledged = False
        timeouts = (
            limits.settings_timeout_s,
            limits.frame_timeout_s,
            limits.message_timeout_s,
            limits.idle_timeout_s,
            limits.keepalive_interval_s,
            limits.keepalive_timeout_s,
        )
        self._shortest_s = min((timeout for timeout in timeouts if timeout), default=math.inf)

    def look(self, at: float, *, calls: int, calls_seen: int, frame_since: float | None) -> Ping | Close | None:
        """What is due.

        Args:
          at: Now.
          calls: Open ones.
          calls_seen: How many there ever were.
          frame_since: Since when a frame or header block has been coming in, None when none has.
        """
        if calls or calls_seen != self._calls_seen:
            self._idle_since = at
            self._calls_seen = calls_seen
        for deadline, action in self._deadlines(calls, frame_since):
            if deadline <= at:
                if isinstance(action, Ping):
                    self._pinged_at = at
                return action
        return None

    def next_look(self, at: float, *, calls: int, frame_since: float | None) -> float:
        """Until when nothing can be due, having looked at the time `at`."""
        deadlines = [deadline for deadline, _ in self._deadlines(calls, frame_since)]
        return min([*deadlines, at + self._shortest_s])

    def _deadlines(self, calls: int, frame_since: float | None) -> Iterator[tuple[float, Ping | Close]]:
        limits = self._limits
        if self.settings_at is None:
            reason = f"the peer did not speak HTTP/2 within {limits.preface_timeout_s:g} s"
            yield _after(self._began_at, limits.preface_timeout_s), Close(_SETTINGS_TIMEOUT, reason)
            return
        if not self.acknowledged:
            reason = f"our SETTINGS were not acknowledged within {limits.settings_timeout_s:g} s"
            yield _after(self.settings_at, limits.settings_timeout_s), Close(_SETTINGS_TIMEOUT, reason)
        if frame_since is not None:
            reason = f"a frame was not whole within {limits.frame_timeout_s:g} s"
            yield _after(frame_since, limits.frame_timeout_s), Close(_ENHANCE_YOUR_CALM, reason)
        if not calls and not self._client_side:
            yield _after(self._idle_since, limits.idle_timeout_s), Close(_NO_ERROR, "the connection was idle")
        if limits.keepalive_timeout_s and (calls or not self._client_side):
            yield self._sign_of_life()

    def _sign_of_life(self) -> tuple[float, Ping | Close]:
        if self._pinged_at <= self.last_bytes_at:
            return _after(self.last_bytes_at, self._limits.keepalive_interval_s), Ping()
        reason = f"the peer gave no sign of life for {self._limits.keepalive_timeout_s:g} s after a ping"
        return _after(self._pinged_at, self._limits.keepalive_timeout_s), Close(_NO_ERROR, reason)


def _after(since: float, timeout_s: float) -> float:
    return since + timeout_s if timeout_s else math.inf
