"""Standard output as rich sees it, and text from outside made safe to show."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console", "print_json", "printable", "tolerate_encodings"]


def make_console() -> Console:
    """Standard output, as rich sees it; in a pipe, lines are as long as they are."""
    from rich.console import Console  # here, so that --help does not load it

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


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of standard output, at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)
