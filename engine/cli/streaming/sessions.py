"""One face for a session in this process and one on a server."""

from __future__ import annotations

from typing import Protocol

from engine.errors import EngineError
from engine.messages import Chunk, Ready, Result, SessionMetrics
from engine.session import Session

__all__ = ["AnySession", "Event", "LocalSession"]

Event = Result | EngineError | SessionMetrics


class AnySession(Protocol):
    """What the commands need of a session; `transport.client.RemoteSession` has it as it is."""

    @property
    def ready(self) -> Ready:
        """What the session told when it was ready."""

    async def send(self, chunk: Chunk) -> None:
        """Send a chunk, waiting for room."""

    async def close(self) -> None:
        """Flush, and send nothing more."""

    async def cancel(self) -> None:
        """End at once; final metrics remain to be received."""

    async def receive(self) -> Event | None:
        """The next event; None at a good end, else raises the failure, which has come as an event before."""


class LocalSession:
    """A session in this process, which ends as one on a server does: with the failure raised."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.ready = session.ready

    async def send(self, chunk: Chunk) -> None:
        """Send a chunk, waiting for room."""
        await self._session.send(chunk)

    async def close(self) -> None:
        """Flush, and send nothing more."""
        await self._session.close()

    async def cancel(self) -> None:
        """End at once; final metrics remain to be received."""
        self._session.cancel()

    async def receive(self) -> Event | None:
        """The next event; None at a good end, else raises the failure."""
        event = await self._session.receive()
        if event is None and self._session.failure is not None:
            raise self._session.failure
        return event
