"""`headrace serve`: the command of `engine.serve`, with help in the form of all commands."""

from __future__ import annotations

from engine.cli.common.command import Command
from engine.serve.command import main

__all__ = ["serve"]

serve = Command(
    "serve",
    params=main.params,
    callback=main.callback,
    help=main.help,
    exits="0 after Ctrl-C or SIGTERM; 1 an address or a file cannot be used.",
    example="headrace serve --port 50051 --max-memory-mb 200",
)
