"""Run of a load against a fresh server, for all commands over a socket."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click
import trio

from benchmarks.load.drive import LoadFailed, drive
from benchmarks.load.script import Load, Outcome
from benchmarks.load.servers import HEADRACE, running_server
from benchmarks.report.progress import Bars
from engine.errors import EngineError, leaves
from transport.client import RpcError

__all__ = ["run_load", "run_trio"]

T = TypeVar("T")


def run_trio(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run `trio.run`, and turn an error of a server or the engine into a command's error.

    Raises:
      Abort: after Ctrl-C.
      ClickException: the first such error.
    """
    errors: list[BaseException] = []
    try:
        return trio.run(work, *arguments)
    except* (EngineError, RpcError) as group:
        errors.extend(leaves(group))
    except* KeyboardInterrupt:
        raise click.Abort from None
    raise click.ClickException(str(errors[0]))


def run_load(
    load: Load, bars: Bars, text: str = "", module: Sequence[str] = HEADRACE, python: str = sys.executable
) -> Outcome:
    """Start a server, run a load against it, and stop it.

    Args:
      load: Load to run.
      bars: Bars that show the progress.
      text: Text of its bar; by default, the number of sessions.
      module: Server, as `running_server` takes it.
      python: Interpreter of the server.

    Raises:
      ClickException: the load cannot be run.
    """
    total = load.sessions * len(load.script.chunks)
    try:
        with running_server(module, python) as server, bars.bar(text or f"{load.sessions} sessions", total) as advance:
            return drive(load, server.host, server.port, server.pid, advance)
    except LoadFailed as error:
        raise click.ClickException(str(error)) from None
