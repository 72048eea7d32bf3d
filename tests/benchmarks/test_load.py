"""Counts of the load's client, against a simulated server."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from time import perf_counter

import numpy as np

from benchmarks.load.client_process import Clients
from benchmarks.load.script import Load, Report, Script, Share
from tests.benchmarks.test_wire import PATH, Server


@contextmanager
def stalling_server(until: float) -> Iterator[int]:
    """Run a server that echoes, but reads nothing before a given time; yields its port."""
    over = threading.Event()

    def serve() -> None:
        end, _ = listener.accept()
        over.wait(until - perf_counter())
        with end:
            server = Server(end)
            while not over.wait(0.001):
                server.turn()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def follow(load: Load, port: int, begin: float) -> Report:
    ours, theirs = Pipe()
    with ours, theirs:
        sessions = tuple(range(load.sessions))
        share = Share(load=load, host="127.0.0.1", port=port, sessions=sessions, connections=1, cores=frozenset())
        clients = Clients(share, theirs)
        clients.open()
        try:
            clients.follow(begin)
        finally:
            gc.unfreeze()
        clients.close()
    return clients.report


def test_a_stall_is_charged_to_every_chunk_that_was_due_meanwhile() -> None:
    """Even to chunks that the client could not send, because the server's window was shut."""
    chunks, period = 10, 0.005
    load = Load(script=Script(path=PATH, chunks=(bytes(20_000),) * chunks), sessions=2, period_s=period)
    begin = perf_counter()
    released = begin + (chunks + 1) * period
    with stalling_server(released) as port:
        report = follow(load, port, begin)
    due = begin + np.arange(2)[:, None] * period / 2 + np.arange(chunks) * period
    np.testing.assert_allclose(report.due, due)
    assert (report.received >= released).all()
    assert (np.diff(report.received) >= 0).all()
    assert len(report.late_s) == 2 * chunks
    assert (report.late_s >= 0).all()
