"""Server under soak, in a process of its own, with a pipe that reports its state.

    python -m benchmarks.soak.server

It prints `listening on ADDRESS`; then, for every line on standard input, one line of JSON. It ends when its input ends.
It serves the same as `engine.serve`; its timeouts are short, so that every kind of bad client is cut within seconds.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import threading
from collections import Counter

import attrs
import trio

from engine.serve import heap
from engine.serve.running import run_server
from engine.serve.settings import Settings
from engine.session import Session
from engine.session.accounts import Ledger
from nodes.contract import Node
from transport.grpc.addresses import TcpAddress
from transport.grpc.connection import Connection
from transport.grpc.limits import Limits
from transport.server import Server
from transport.server.call import Call

__all__ = ["SETTINGS", "Look"]

SETTINGS = Settings(
    listen=(TcpAddress("127.0.0.1", 0),),
    max_sessions=200,
    session_idle_timeout_s=10,
    limits=Limits(
        max_connections=200,
        preface_timeout_s=2,
        settings_timeout_s=2,
        frame_timeout_s=3,
        message_timeout_s=3,
        idle_timeout_s=5,
        keepalive_interval_s=3,
        keepalive_timeout_s=2,
        write_timeout_s=3,
    ),
)

_WATCHED = (Session, Ledger, Node, Call, Connection)


@attrs.frozen
class Look:
    """State of the server at one moment.

    Attributes:
      tasks: Number of all trio tasks.
      large_message_bytes: Part of the server's budget for large messages that is in use.
      objects: Number of objects of sessions, calls and connections after a full collection, by class.
    """

    tasks: int
    fds: int
    threads: int
    connections: int
    calls: int
    sessions: int
    large_message_bytes: int
    rss_bytes: int
    objects: dict[str, int]


def look(server: Server) -> Look:
    """Run a full garbage collection, and take the state of the server."""
    gc.collect()
    objects: Counter[str] = Counter({kind.__name__: 0 for kind in _WATCHED})
    for each in gc.get_objects():
        for kind in _WATCHED:
            if isinstance(each, kind):
                objects[kind.__name__] += 1
    return Look(
        tasks=trio.lowlevel.current_statistics().tasks_living,
        fds=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        connections=len(server.connections),
        calls=server.open_calls,
        sessions=server.access.statistics().sessions,
        large_message_bytes=server.budget.used_bytes,
        rss_bytes=_rss_bytes(),
        objects=dict(objects),
    )


def _rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(run_server, SETTINGS)
        heap.freeze()
        print(f"listening on {server.listeners[0].name}", flush=True)
        async with trio.lowlevel.FdStream(os.dup(0)) as questions:
            while await questions.receive_some(64):
                print(json.dumps(attrs.asdict(look(server))), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level="ERROR")
    heap.return_large_blocks()
    trio.run(_serve)
