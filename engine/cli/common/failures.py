"""Exit codes of commands, and the error for input that cannot be used."""

from __future__ import annotations

import click

__all__ = ["FAILED", "USAGE", "BadInput"]

FAILED = 1
USAGE = 2


class BadInput(click.ClickException):
    """Input from the user that cannot be used: a file, a manifest or an address."""

    exit_code = USAGE
