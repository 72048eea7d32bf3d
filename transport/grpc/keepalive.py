"""Timeouts of one connection: when a ping, or the end of the connection, is due.

Rules kept here:
- No clock and no waiting: the driver passes the time in, and sleeps until the time it gets back.
- A deadline that arises during a sleep lies at least the shortest timeout ahead, so a sleep of at most that misses
  none. A message or a frame costs nothing here; only the time of the last bytes is noted.
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
    """End the connection; its GOAWAY carries this HTTP/2 error code."""

    code: int
    reason: str


class ConnectionTimers:
    """The timeouts of one connection.

    Attributes:
      last_bytes_at: Time of the last bytes received.
      settings_at: Time of the peer's SETTINGS; None before they came.
      acknowledged: True once the peer has acknowledged our SETTINGS.
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
        """Return the action that is due, if any.

        Args:
          at: Current time.
          calls: Number of open calls.
          calls_seen: A number that grows with every call that starts.
          frame_since: Arrival of the first bytes of a frame or header block that is still incomplete, or None.
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
        """Return the time until which nothing can be due, after a `look` at the time `at`."""
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
