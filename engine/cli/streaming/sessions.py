"""Common interface of a session in this process and one on a server."""

from __future__ import annotations

from typing import Protocol

from engine.errors import EngineError
from engine.messages import Chunk, Ready, Result, SessionMetrics
from engine.session import Session

__all__ = ["AnySession", "Event", "LocalSession"]

Event = Result | EngineError | SessionMetrics


class AnySession(Protocol):
    """Session, as the commands use it; `transport.client.RemoteSession` has this interface as it is."""

    @property
    def ready(self) -> Ready:
        """Message that the session sent when it became ready."""

    async def send(self, chunk: Chunk) -> None:
        """Send a chunk, waiting for room."""

    async def close(self) -> None:
        """Close the session: nothing more can be sent, and the nodes are flushed."""

    async def cancel(self) -> None:
        """Cancel the session at once; its final metrics can still be received."""

    async def receive(self) -> Event | None:
        """Return the next event, or None at the end; if the session failed, raise the failure instead of None.

        The failure was received as an event before.
        """


class LocalSession:
    """Session in this process that raises its failure at the end, as a session on a server does."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.ready = session.ready

    async def send(self, chunk: Chunk) -> None:
        await self._session.send(chunk)

    async def close(self) -> None:
        await self._session.close()

    async def cancel(self) -> None:
        self._session.cancel()

    async def receive(self) -> Event | None:
        event = await self._session.receive()
        if event is None and self._session.failure is not None:
            raise self._session.failure
        return event
