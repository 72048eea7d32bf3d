"""Who may call now: tokens, how many sessions at a time, and whether the server takes any more at all.

Rules kept here:
- It is asked once for each call, before anything else is done for it, and answers at once. Nothing waits here.
- A token is looked at first, so that a stranger learns nothing, not even which methods there are.
- Whoever got in leaves exactly once; counts of sessions are exact, and kept by token for whoever measures.
- Failures are counted all and logged few.
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

_LOGGED = 5
_PERIOD_S = 10.0


class Unauthenticated(EngineError):
    """The caller shows no token that is known."""

    category = Category.AUTHENTICATION


class ShuttingDown(EngineError):
    """The server ends; another, or the same a little later, will do."""

    category = Category.UNAVAILABLE


@frozen(kw_only=True)
class AccessPolicy:
    """What is admitted.

    Attributes:
      open_paths: Methods that need no token, and are answered while the server ends.
      session_paths: Methods whose calls are sessions, and counted.
      max_sessions: At a time; 0 is any number.
      max_sessions_per_token: At a time for one name; 0 is any number.
    """

    open_paths: frozenset[str] = frozenset()
    session_paths: frozenset[str] = frozenset()
    max_sessions: int = field(default=0, validator=ge(0))
    max_sessions_per_token: int = field(default=0, validator=ge(0))


@frozen
class Statistics:
    """What went through the access.

    Attributes:
      sessions: Open now.
      sessions_by_token: Open now, by the token's name; "" where no token is asked for.
      calls_by_token: All there ever were.
      refused: By the kind of refusal.
    """

    sessions: int
    sessions_by_token: dict[str, int]
    calls_by_token: dict[str, int]
    refused: dict[str, int]


@frozen(eq=False)
class Grant:
    """What a call holds while it runs.

    Attributes:
      name: The token's; "" where none is asked for.
      is_session: It is counted as one.
      is_open: Anybody may make this call.
    """

    name: str
    is_session: bool
    is_open: bool


class AccessControl:
    """Admission to one server.

    Args:
      rules: What is admitted.
      tokens: Whose calls are; None is everybody's.
      clock: Seconds, for the log alone.
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
        """Let nobody in any more."""
        self.is_closing = True

    def admit(self, path: str, metadata: Metadata, peer: str) -> Grant:
        """Let a call in, to `leave` at its end.

        Raises:
          Unauthenticated, ShuttingDown, AtCapacity.
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
            self._failures.tell(peer, path, str(error))
            raise Unauthenticated(str(error)) from None

    def _check_room(self, name: str) -> None:
        rules = self._rules
        if rules.max_sessions and self._open.total() >= rules.max_sessions:
            raise AtCapacity(f"the server has {rules.max_sessions} sessions open, as many as it takes")
        if rules.max_sessions_per_token and name and self._open[name] >= rules.max_sessions_per_token:
            raise AtCapacity(f"{name} has {rules.max_sessions_per_token} sessions open, as many as one token may have")

    def release(self, grant: Grant) -> None:
        """A call is over."""
        if grant.is_session:
            self._open[grant.name] -= 1
            if not self._open[grant.name]:
                del self._open[grant.name]

    def statistics(self) -> Statistics:
        return Statistics(self._open.total(), dict(self._open), dict(self._calls), dict(self._refused))


class _FailureLog:
    """A few failures in a while as they are, the rest as a number."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._seen = 0

    def tell(self, peer: str, path: str, reason: str) -> None:
        now = self._clock()
        if now - self._began >= _PERIOD_S:
            if self._seen > _LOGGED:
                _log.warning("%d more calls were refused for their token since then", self._seen - _LOGGED)
            self._began, self._seen = now, 0
        self._seen += 1
        if self._seen <= _LOGGED:
            _log.warning("refused %s from %s: %s", path[:100], peer, reason)
