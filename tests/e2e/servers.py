"""Servers to test: the real one in a separate process, and one in this process, to look inside."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import trio

from engine.runtime.engine import Engine
from tests.e2e.clients import ROOT
from transport.grpc.limits import Limits
from transport.server import Server, serve
from transport.service.pipelines import handlers

START_S = 120.0


class ServerProcess:
    """`python -m engine.serve --port 0`, stopped by SIGTERM; its exit code must be 0.

    Args:
      options: Further options; `--listen` or `--fd` replaces the free port.
      log_level: Level of the server's log.
      pass_fds: Descriptors that the process inherits.
    """

    def __init__(self, *options: str, log_level: str = "WARNING", pass_fds: Sequence[int] = ()) -> None:
        where = [] if {"--listen", "--fd"} & set(options) else ["--port", "0"]
        command = [sys.executable, "-m", "engine.serve", *where, "--log-level", log_level, *options]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
            pass_fds=pass_fds,
        )
        try:
            self.address = self._read_address()
        except BaseException:
            self.kill()
            raise

    def _read_address(self) -> str:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(START_S), f"the server said nothing within {START_S} s"
        return self.next_address()

    def next_address(self) -> str:
        """Read the next address that the server listens on; it prints all of them at once."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on (\S+)\n", line)
        assert match, (line, self.process.poll(), self.process.stderr and self.process.stderr.read())
        return match[1]

    def read_log(self, wanted: str) -> str:
        """Wait for a line of the log that contains this text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if wanted in line:
                return line
        raise AssertionError(f"the server ended without logging {wanted!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        code, errors = self.stop()
        assert code == 0, errors
        assert "Traceback" not in errors, errors

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Stop the server; return its exit code and the rest of its log."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            _, errors = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.process.returncode, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)

    @property
    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def serving(
    registry: Mapping[str, type[Any]], limits: Limits | None = None, **of_engine: Any
) -> AsyncIterator[Server]:
    """Run a server in this process, with the test's own nodes."""
    engine = Engine(registry, **of_engine)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        server: Server = await nursery.start(partial(serve, handlers(engine), limits=limits))
        yield server
        nursery.cancel_scope.cancel()
