"""Run a load: divide its sessions among client processes (`benchmarks.load.client_process`) that begin together."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import perf_counter
from typing import Any

from benchmarks.load.client_process import run
from benchmarks.load.script import Load, Outcome, Share, outcome_of
from benchmarks.report.machine import client_cores, ignoring_interrupts, usage
from benchmarks.report.progress import Advance, no_progress

__all__ = ["LoadFailed", "drive"]

START_S = 0.05
OPENING_S = 60.0
SESSIONS_PER_CONNECTION = 25
MOST_PROCESSES = 4


class LoadFailed(Exception):
    """A load could not be run: the server refused a session or was lost, or a client process failed."""


def drive(load: Load, host: str, port: int, server: int, advance: Advance = no_progress) -> Outcome:
    """Run a load against a server.

    Args:
      load: Load to run.
      host: Host of the server.
      port: Port of the server.
      server: Process id of the server, whose resource usage is measured.
      advance: Called with the number of newly answered chunks.

    Raises:
      LoadFailed: the sessions could not be opened, or a client process died.
    """
    with _client_processes(_shares(load, host, port)) as pipes:
        for pipe in pipes:
            _expect(pipe, "opened")
        before = usage(server)
        begin = perf_counter() + START_S
        for pipe in pipes:
            pipe.send(begin)
        _await_all(pipes, "answered", advance)
        after = usage(server)
        for pipe in pipes:
            pipe.send("close")
        reports = [_expect(pipe, "report") for pipe in pipes]
    return outcome_of(load, reports, before, after)


def _shares(load: Load, host: str, port: int) -> list[Share]:
    cores = sorted(client_cores())
    processes = min(load.processes or min(len(cores), MOST_PROCESSES), load.sessions)
    return [
        Share(
            load=load,
            host=host,
            port=port,
            sessions=(sessions := tuple(range(i, load.sessions, processes))),
            connections=_connections(load, len(sessions), processes),
            cores=frozenset({cores[i % len(cores)]}),
        )
        for i in range(processes)
    ]


def _connections(load: Load, sessions: int, processes: int) -> int:
    """Return the number of connections for a process with this number of sessions."""
    if most := load.script.calls_per_connection:
        return -(-sessions // most)
    return max(1, (load.connections or -(-load.sessions // SESSIONS_PER_CONNECTION)) // processes)


@contextmanager
def _client_processes(shares: list[Share]) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(share, theirs), daemon=True)
            with ignoring_interrupts():
                process.start()
            theirs.close()
            started.append((process, ours))
        yield [pipe for _, pipe in started]
    finally:
        for each, pipe in started:
            each.terminate()
            each.join()
            pipe.close()


def _expect(pipe: Connection, what: str) -> Any:
    """Wait up to OPENING_S for a message of this kind from a client process; return its value."""
    if not pipe.poll(OPENING_S):
        raise LoadFailed(f"a client process did not report {what!r} within {OPENING_S:g} s")
    word, value = _receive(pipe)
    assert word == what
    return value


def _await_all(pipes: list[Connection], what: str, advance: Advance) -> None:
    """Wait for a message of this kind from all client processes, and pass their progress on."""
    waiting = list(pipes)
    while waiting:
        for pipe in wait(waiting):
            assert isinstance(pipe, Connection)
            word, value = _receive(pipe)
            if word == what:
                waiting.remove(pipe)
            else:
                advance(value)


def _receive(pipe: Connection) -> tuple[str, Any]:
    """Return the next message of a client process: its kind and value."""
    try:
        word, value = pipe.recv()
    except EOFError:
        raise LoadFailed("a client process has died") from None
    if word == "failed":
        raise LoadFailed(value)
    return word, value
