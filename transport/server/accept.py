"""Accepting connections, also when nothing is left to serve them with.

Rules kept here:
- Running out of file descriptors ends no listener. One is kept in reserve, so that who connects then is told.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Awaitable, Callable

import trio

__all__ = ["accept_for_ever"]

_log = logging.getLogger(f"headrace.{__name__}")

_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RECOVERY_S = 0.1
_LOG_EVERY_S = 10.0


class _Reserve:
    """A file descriptor kept for when there are no others."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self.take_back()
        self._logged_at = -_LOG_EVERY_S

    def lend(self) -> bool:
        """Give it up; False if it is not there."""
        if self._fd is None:
            return False
        os.close(self._fd)
        self._fd = None
        return True

    def take_back(self) -> bool:
        """Have it again; False if there is still none to have."""
        if self._fd is None:
            with contextlib.suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY)
        return self._fd is not None

    def log(self, error: OSError) -> None:
        now = trio.current_time()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            _log.error("cannot accept connections, they are turned away: %s", error.strerror or error)


async def accept_for_ever(
    listener: trio.SocketListener,
    serve: Callable[[trio.SocketStream], Awaitable[None]],
    turn_away: Callable[[trio.SocketStream], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    """Accept until cancelled.

    Args:
      listener: Stays open.
      serve: Run in `nursery` with each connection; owns it, and raises nothing.
      turn_away: Awaited with one that came when nothing was left to serve it with; it is closed afterwards.
      nursery: What connections live in.
    """
    reserve = _Reserve()
    try:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _NOTHING_LEFT:
                    raise
                reserve.log(error)
                if (spare := await _accept_with(reserve, listener, turn_away)) is not None:
                    nursery.start_soon(serve, spare)
            else:
                nursery.start_soon(serve, stream)
    finally:
        reserve.lend()


async def _accept_with(
    reserve: _Reserve, listener: trio.SocketListener, turn_away: Callable[[trio.SocketStream], Awaitable[None]]
) -> trio.SocketStream | None:
    """Accept with the descriptor in reserve: linux wants one even to say that nobody is there.

    Returns:
      A connection to be served after all, because others have become free; None after a while, or if who came was
      turned away.
    """
    if not reserve.lend():
        reserve.take_back()
        await trio.sleep(_RECOVERY_S)
        return None
    try:
        with trio.move_on_after(_RECOVERY_S):
            stream = await listener.accept()
            if reserve.take_back():
                return stream
            try:
                await turn_away(stream)
            finally:
                await trio.aclose_forcefully(stream)
    except OSError:
        await trio.sleep(_RECOVERY_S)
    finally:
        reserve.take_back()
    return None
