"""Standard output as rich sees it, and text from outside made safe to show."""

from __future__ import annotations

import io
import sys

from rich.console import Console

__all__ = ["make_console", "printable", "tolerate_encodings"]


def make_console() -> Console:
    """Standard output, as rich sees it; in a pipe, lines are as long as they are."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000
    return console


def printable(text: str) -> str:
    """Text from outside with control characters made harmless; line breaks stay."""
    return "".join(mark if mark.isprintable() or mark == "\n" else "\N{REPLACEMENT CHARACTER}" for mark in text)


def tolerate_encodings() -> None:
    """Have what a terminal's or pipe's encoding cannot say replaced, not raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
