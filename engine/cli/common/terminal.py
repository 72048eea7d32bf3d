"""Standard output: a rich console, JSON lines, and text from outside made safe to print."""

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
    """Make a rich console on standard output; in a pipe, it never wraps a line."""
    from rich.console import Console  # here, so that --help does not load it

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000
    return console


def printable(text: str) -> str:
    """Replace unprintable characters in text from outside with U+FFFD; line breaks stay."""
    return "".join(mark if mark.isprintable() or mark == "\n" else "\N{REPLACEMENT CHARACTER}" for mark in text)


def tolerate_encodings() -> None:
    """Replace characters that the output's encoding lacks, instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of standard output, and flush."""
    print(json.dumps(value, ensure_ascii=False), flush=True)
