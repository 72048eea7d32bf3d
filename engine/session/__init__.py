"""A session over its whole life: opening, admission, accounts, results, and unary execution on top of it."""

from __future__ import annotations

from engine.session.opening import open_session
from engine.session.outbox import Event
from engine.session.session import Session

__all__ = ["Event", "Session", "open_session"]
