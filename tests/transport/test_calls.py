"""The status of a call whose handler ends with a mixture of errors and cancellation."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from transport.client.channel import channel_over
from transport.grpc.limits import Limits
from transport.server import Server
from transport.server.call import Call

PATH = "/t.T/M"


async def two_tasks(call: Call) -> None:
    """Run two tasks, as a relay does: one reads, the other takes several steps to end after a cancellation."""

    async def read() -> None:
        while await call.receive() is not None:
            pass

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(20):  # the connection has ended by then
                    await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(work)


@pytest.mark.parametrize("reset_first", [True, False])
async def test_a_connection_that_ends_with_a_handler_at_work_is_no_fault(
    caplog: pytest.LogCaptureFixture, reset_first: bool
) -> None:
    """The broken call is an error in one task while the connection's end cancels the other."""
    server = Server({PATH: two_tasks}, Limits(), debug_errors=False)
    near, far = trio.testing.memory_stream_pair()
    with caplog.at_level(logging.INFO), trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            async with channel_over(near, "there") as channel:
                async with channel.call(PATH):
                    await trio.testing.wait_all_tasks_blocked()
                    if not reset_first:
                        await near.aclose()
                await near.aclose()
    assert "fault" not in caplog.text
    assert "failed" not in caplog.text
    assert not server.connections
