"""Access control: checks tokens, limits sessions, and refuses new calls during a shutdown.

Rules kept here:
- Every call is checked once, before any other work is done for it. The check never waits.
- The token is checked first, so that a caller without one learns nothing, not even which methods exist.
- Every grant is released exactly once, so the counts of open sessions, kept by token, are exact.
- All failures are counted; only a few are logged.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from attrs import field, frozen
from attrs.validators import ge

from engine.errors import AtCapacity, Category, EngineError
from transport.grpc.status import Metadata
from transport.server.tokens import NotAuthenticated, TokenFile

__all__ = ["AccessControl", "AccessPolicy", "Grant", "ShuttingDown", "Statistics", "Unauthenticated"]

_log = logging.getLogger(f"headrace.{__name__}")

_LOGGED = 5  # failures logged one by one in each period
_PERIOD_S = 10.0


class Unauthenticated(EngineError):
    """The caller sent no token, or one that the server does not know."""

    category = Category.AUTHENTICATION


class ShuttingDown(EngineError):
    """The server is shutting down. Another server, or this one after a restart, may take the call."""

    category = Category.UNAVAILABLE


@frozen(kw_only=True)
class AccessPolicy:
    """Rules of admission.

    Attributes:
      open_paths: Methods that need no token, and stay open during a shutdown.
      session_paths: Methods whose calls are counted as sessions.
      max_sessions: Sessions open at a time; 0 is no limit.
      max_sessions_per_token: Sessions open at a time for one token name; 0 is no limit.
    """

    open_paths: frozenset[str] = frozenset()
    session_paths: frozenset[str] = frozenset()
    max_sessions: int = field(default=0, validator=ge(0))
    max_sessions_per_token: int = field(default=0, validator=ge(0))


@frozen
class Statistics:
    """Counts of admitted and refused calls.

    Attributes:
      sessions: Sessions open now.
      sessions_by_token: Sessions open now, by token name; "" if the server needs no tokens.
      calls_by_token: Calls admitted since the start, by token name.
      refused: Calls refused since the start, by class name of the error.
    """

    sessions: int
    sessions_by_token: dict[str, int]
    calls_by_token: dict[str, int]
    refused: dict[str, int]


@frozen(eq=False)
class Grant:
    """Admission of one call, held until `release`.

    Attributes:
      name: Token name; "" if the call needs no token.
      is_session: True if the call counts as a session.
      is_open: True if the call needs no token.
    """

    name: str
    is_session: bool
    is_open: bool


class AccessControl:
    """Admission of calls to one server.

    Args:
      rules: Rules of admission.
      tokens: Known tokens; None admits callers without one.
      clock: Clock in seconds; paces the log of failures.
    """

    def __init__(
        self,
        rules: AccessPolicy | None = None,
        tokens: TokenFile | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules or AccessPolicy()
        self._tokens = tokens
        self._open: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._failures = _FailureLog(clock)
        self.is_closing = False

    def close(self) -> None:
        """Refuse all new calls except those of open paths."""
        self.is_closing = True

    def admit(self, path: str, metadata: Metadata, peer: str) -> Grant:
        """Admit a call; the caller must `release` the grant at the call's end.

        Raises:
          Unauthenticated: the call has no token, or an unknown one.
          ShuttingDown: `close` was called.
          AtCapacity: a limit of sessions is reached.
        """
        try:
            return self._admit(path, metadata, peer)
        except EngineError as error:
            self._refused[type(error).__name__] += 1
            raise

    def _admit(self, path: str, metadata: Metadata, peer: str) -> Grant:
        if path in self._rules.open_paths:
            return Grant("", is_session=False, is_open=True)
        name = self._authenticate(path, metadata, peer)
        if self.is_closing:
            raise ShuttingDown("the server is shutting down and takes no new calls")
        is_session = path in self._rules.session_paths
        if is_session:
            self._check_room(name)
            self._open[name] += 1
        self._calls[name] += 1
        return Grant(name, is_session, is_open=False)

    def _authenticate(self, path: str, metadata: Metadata, peer: str) -> str:
        if self._tokens is None:
            return ""
        try:
            return self._tokens.tokens.authenticate(metadata)
        except NotAuthenticated as error:
            self._failures.log(peer, path, str(error))
            raise Unauthenticated(str(error)) from None

    def _check_room(self, name: str) -> None:
        rules = self._rules
        if rules.max_sessions and self._open.total() >= rules.max_sessions:
            raise AtCapacity(f"the server has reached its limit of {rules.max_sessions} open sessions")
        if rules.max_sessions_per_token and name and self._open[name] >= rules.max_sessions_per_token:
            raise AtCapacity(f"token {name} has reached its limit of {rules.max_sessions_per_token} open sessions")

    def release(self, grant: Grant) -> None:
        """Return the grant of a call that has ended."""
        if grant.is_session:
            self._open[grant.name] -= 1
            if not self._open[grant.name]:
                del self._open[grant.name]

    def statistics(self) -> Statistics:
        return Statistics(self._open.total(), dict(self._open), dict(self._calls), dict(self._refused))


class _FailureLog:
    """Log of failed authentications: the first few of each period one by one, the rest as a count."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._seen = 0

    def log(self, peer: str, path: str, reason: str) -> None:
        now = self._clock()
        if now - self._began >= _PERIOD_S:
            if self._seen > _LOGGED:
                _log.warning("refused %d more calls for a missing or unknown token", self._seen - _LOGGED)
            self._began, self._seen = now, 0
        self._seen += 1
        if self._seen <= _LOGGED:
            _log.warning("refused %s from %s: %s", path[:100], peer, reason)
