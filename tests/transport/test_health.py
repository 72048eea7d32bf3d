"""Health needs no token, so what a stranger can hold there is bounded."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
import trio.testing

from transport.client.channel import channel_over
from transport.grpc.limits import Limits
from transport.grpc.status import StatusCode
from transport.server import Server
from transport.service import health
from transport.service.health import HEALTH_SERVICE, Health

WATCH, CHECK = f"/{HEALTH_SERVICE}/Watch", f"/{HEALTH_SERVICE}/Check"


async def test_watchers_are_bounded(autojump_clock, monkeypatch):
    monkeypatch.setattr(health, "MAX_WATCHERS", 2)
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(Health().handlers(), Limits(), debug_errors=False).accept, far)
        async with channel_over(near, "there") as channel, AsyncExitStack() as watching:
            for code in (None, None, StatusCode.RESOURCE_EXHAUSTED):
                call = await watching.enter_async_context(channel.call(WATCH))
                await call.send(b"")
                if code is None:
                    assert await call.receive()
                else:
                    assert (await call.status()).code is code
            await watching.aclose()
            await trio.testing.wait_all_tasks_blocked()
            async with channel.call(WATCH) as call:  # there is room again
                await call.send(b"")
                assert await call.receive()


async def test_a_question_has_its_time(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(Health().handlers(), Limits(), debug_errors=False).accept, far)
        async with channel_over(near, "there") as channel, channel.call(CHECK) as call:
            status = await call.status()
        assert status.code is StatusCode.DEADLINE_EXCEEDED
        assert health.REQUEST_TIMEOUT_S <= trio.current_time() <= health.REQUEST_TIMEOUT_S + 1
