"""Server in a process of its own, and on a core of its own if there are two."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from selectors import EVENT_READ, DefaultSelector

import attrs
import click

from benchmarks.report.machine import ignoring_interrupts, pin, split_cores

__all__ = ["HEADRACE", "Running", "running_server"]

HEADRACE = ("engine.serve", "--port", "0", "--log-level", "ERROR", "--max-sessions", "0")
START_S = 30.0
STOP_S = 20.0


@attrs.frozen
class Running:
    """Running server that is ready for calls."""

    host: str
    port: int
    pid: int


@contextmanager
def running_server(module: Sequence[str] = HEADRACE, python: str = sys.executable) -> Iterator[Running]:
    """Run `python -m MODULE ARGUMENTS...` while the block runs.

    Args:
      module: Module and arguments of a server that prints `listening on HOST:PORT` once ready, and ends on SIGTERM.
      python: Interpreter to run it with.

    Raises:
      ClickException: the server does not start.
    """
    command = [python, "-m", *module]
    with ignoring_interrupts():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            if (cores := split_cores()) is not None:
                pin(process.pid, cores[0])
            line = _first_line(process)
            if not line.startswith("listening on "):
                raise click.ClickException(f"{module[0]} did not start: {line!r}")
            host, _, port = line.split()[-1].rpartition(":")
            yield Running(host, int(port), process.pid)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        return process.stdout.readline() if selector.select(START_S) else ""
