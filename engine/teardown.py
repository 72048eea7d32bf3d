"""A no-op callback for the end of an object's life.

Replacing a listener with it breaks the reference cycle between the two, so both are freed at once, without the garbage
collector.
"""

from __future__ import annotations

__all__ = ["ignore"]


def ignore(*args: object) -> None:
    """Do nothing, whatever the arguments."""
