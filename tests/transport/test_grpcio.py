from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from transport.grpc.limits import Limits
from transport.grpc.status import StatusCode, StatusError
from transport.server import serve
from transport.server.call import Call, unary

ROOT = Path(__file__).parents[2]
SCENARIOS = [
    "unary",
    "bidi",
    "many_at_once",
    "compressed",
    "deadline",
    "cancel",
    "details",
    "internal",
    "unknown",
    "metadata",
    "oversize",
]


class Service:
    """Handlers for the foreign client's scenarios."""

    def __init__(self) -> None:
        self.states = {b"waiting": trio.Event(), b"cancelled": trio.Event()}

    def handlers(self):
        return {
            "/t.T/Echo": self.echo,
            "/t.T/Wait": self.wait,
            "/t.T/Metadata": self.metadata,
            "/t.T/Shout": unary(self.shout),
            "/t.T/Until": unary(self.until),
            "/t.T/Fail": unary(self.fail),
            "/t.T/Crash": unary(self.crash),
        }

    async def echo(self, call: Call) -> None:
        while (message := await call.receive()) is not None:
            await call.send(message)

    async def wait(self, call: Call) -> None:
        self.states[b"waiting"].set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.states[b"cancelled"].set()
            raise

    async def metadata(self, call: Call) -> None:
        call.start(tuple(pair for pair in call.metadata if pair[0] in ("k", "raw-bin")))
        call.trailing_metadata = (("last-bin", b"\1"),)
        await call.send(b"x")

    async def shout(self, message: bytes, call: Call) -> bytes:
        return message.upper()

    async def until(self, state: bytes, call: Call) -> bytes:
        await self.states[state].wait()
        return state

    async def fail(self, message: bytes, call: Call) -> bytes:
        raise StatusError(
            StatusCode.FAILED_PRECONDITION, "100 % ünïcode, 日本 ", metadata=(("retry", "5"),), details=b"\0\1\2"
        )

    async def crash(self, message: bytes, call: Call) -> bytes:
        raise LookupError("secret")


@asynccontextmanager
async def serving():
    limits = Limits(max_message_bytes=4_000_000)
    async with trio.open_nursery() as nursery:

        async def start(task_status):
            await serve(Service().handlers(), limits=limits, task_status=task_status)

        yield await nursery.start(start)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_foreign_client(scenario, caplog):
    with trio.fail_after(120):
        async with serving() as server:
            command = [sys.executable, "-m", "tests.transport.grpcio_client", str(server.port), scenario]
            done = await trio.run_process(command, check=False, capture_stdout=True, stderr=subprocess.STDOUT, cwd=ROOT)
            assert done.returncode == 0, done.stdout.decode()
