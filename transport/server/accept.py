"""Accept loop that survives a lack of file descriptors or memory.

Rules kept here:
- Running out of descriptors does not stop a listener. One is reserved, so that a client that connects then is refused
  properly.
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
    """A spare file descriptor, given up to accept one connection when no other is left."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self.take_back()
        self._logged_at = -_LOG_EVERY_S

    def lend(self) -> bool:
        """Close the spare descriptor; False if there is none."""
        if self._fd is None:
            return False
        os.close(self._fd)
        self._fd = None
        return True

    def take_back(self) -> bool:
        """Open the spare descriptor again; False if the system still has none."""
        if self._fd is None:
            with contextlib.suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY)
        return self._fd is not None

    def log(self, error: OSError) -> None:
        now = trio.current_time()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            _log.error("new connections are turned away: %s", error.strerror or error)


async def accept_for_ever(
    listener: trio.SocketListener,
    serve: Callable[[trio.SocketStream], Awaitable[None]],
    turn_away: Callable[[trio.SocketStream], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    """Accept connections until cancelled.

    Args:
      listener: Listening socket; stays open.
      serve: Started in `nursery` with each connection; owns the connection, and must not raise.
      turn_away: Awaited with a connection that cannot be served for lack of descriptors; closed here afterwards.
      nursery: Nursery of the connections.
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
    """Accept one connection with the reserved descriptor, because on Linux even a failing `accept` needs one.

    Returns:
      A connection that can be served after all, because a descriptor has become free; None if the connection was
      turned away, or none arrived within _RECOVERY_S.
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
