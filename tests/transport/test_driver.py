from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from tests.transport.sansio_link import PREFACE, RawClient, frame, frames_of
from transport.client.channel import Channel, channel_over, open_channel
from transport.grpc.connection import Connection, ResetCode
from transport.grpc.driver import Driver
from transport.grpc.events import RequestStarted
from transport.grpc.framing import prefix
from transport.grpc.limits import Limits
from transport.grpc.status import RpcError, Status, StatusCode, StatusError
from transport.server import AddressInUse, Server, serve
from transport.server.call import Call, unary

PATH = "/t.T/M"
RST, SETTINGS, PING, GOAWAY = 3, 4, 6, 7


async def echo(call: Call) -> None:
    while (message := await call.receive()) is not None:
        await call.send(message)


@asynccontextmanager
async def joined(
    handler=echo, *, server_limits: Limits | None = None, client_limits: Limits | None = None, debug: bool = False
) -> AsyncIterator[tuple[Channel, Server]]:
    """Join a channel and a server by a pipe in memory."""
    near, far = trio.testing.memory_stream_pair()
    server = Server({PATH: handler}, server_limits or Limits(), debug_errors=debug)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.accept, far, "test")
        async with channel_over(near, "there", limits=client_limits) as channel:
            yield channel, server


@asynccontextmanager
async def listening(handler=echo, *, limits: Limits | None = None) -> AsyncIterator[Server]:
    """Run a server on a real socket."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(_serve, handler, limits)
        nursery.cancel_scope.cancel()


async def _serve(handler, limits, task_status):
    await serve({PATH: handler}, limits=limits, task_status=task_status)


class Recorder:
    """A handler that waits for ever and records its start and end."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.ended = trio.Event()
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> None:
        self.calls.append(call)
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.ended.set()


class TestCalls:
    async def test_echo_keeps_order_and_content(self, autojump_clock):
        async with joined() as (channel, _), channel.call(PATH) as call:
            for size in (0, 1, 5, 640, 70_000, 1_000_000):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call.send, bytes([size % 256]) * size)
                    assert await call.receive() == bytes([size % 256]) * size
            call.half_close()
            assert await call.receive() is None
            assert await call.status() == Status()

    async def test_many_messages_before_the_first_is_read(self, autojump_clock):
        async with joined() as (channel, _), channel.call(PATH) as call, trio.open_nursery() as nursery:
            nursery.start_soon(self.send_numbers, call)
            for number in range(2000):
                assert await call.receive() == str(number).encode() * 100

    async def send_numbers(self, call):
        for number in range(2000):
            await call.send(str(number).encode() * 100)

    async def test_metadata_goes_both_ways(self, autojump_clock):
        async def handler(call: Call) -> None:
            call.start((("first", "1"), ("seen", dict(call.metadata)["k"])))
            call.trailing_metadata = (("last-bin", b"\0"),)
            await call.send(b"x")

        async with joined(handler) as (channel, _), channel.call(PATH, (("k", "v"),)) as call:
            assert {("first", "1"), ("seen", "v")} <= set(await call.initial_metadata())
            assert await call.receive() == b"x"
            assert (await call.status()).metadata == (("last-bin", b"\0"),)

    async def test_unary(self, autojump_clock):
        async def shout(message: bytes, call: Call) -> bytes:
            return message.upper()

        async with joined(unary(shout)) as (channel, _):
            async with channel.call(PATH) as call:
                await call.send(b"ab")
                call.half_close()
                assert await call.receive() == b"AB"
                assert await call.receive() is None
            async with channel.call(PATH) as call:
                call.half_close()
                assert (await call.status()).code is StatusCode.INTERNAL
            async with channel.call(PATH) as call:
                await call.send(b"a")
                await call.send(b"b")
                assert (await call.status()).code is StatusCode.UNIMPLEMENTED

    async def test_an_unknown_method(self, autojump_clock):
        async with joined() as (channel, _), channel.call("/t.T/Nothing") as call:
            with pytest.raises(RpcError) as caught:
                await call.receive()
            assert caught.value.code is StatusCode.UNIMPLEMENTED

    async def test_a_handler_chooses_its_status(self, autojump_clock):
        async def handler(call: Call) -> None:
            call.trailing_metadata = (("a", "b"),)
            await call.send(b"before")
            async with trio.open_nursery():  # wraps the exception in a group
                raise StatusError(StatusCode.ABORTED, "né", metadata=(("retry", "5"),), details=b"\1")

        async with joined(handler) as (channel, _), channel.call(PATH) as call:
            status = await call.status()
            assert status == Status(StatusCode.ABORTED, "né", b"\1", (("retry", "5"), ("a", "b")))
            assert await call.receive() == b"before"
            with pytest.raises(RpcError) as caught:
                await call.receive()
            assert caught.value.status == status
            with pytest.raises(RpcError):
                await call.send(b"more")

    @pytest.mark.parametrize("debug", [False, True])
    async def test_what_went_wrong_stays_in_the_log(self, autojump_clock, caplog, debug):
        async def handler(call: Call) -> None:
            raise LookupError("secret")

        async with joined(handler, debug=debug) as (channel, _), channel.call(PATH) as call:
            status = await call.status()
        assert status.code is StatusCode.INTERNAL
        assert ("secret" in status.message) is debug
        assert "secret" in caplog.text

    async def test_trailers_that_cannot_be_sent_do_not_lose_the_status(self, autojump_clock, caplog):
        async def handler(call: Call) -> None:
            call.trailing_metadata = (("k", "a\r\nb"),)

        async with joined(handler) as (channel, _), channel.call(PATH) as call:
            assert await call.status() == Status()
        assert "trailers" in caplog.text


class TestCancellation:
    async def test_leaving_a_call_cancels_its_handler(self, autojump_clock):
        handler = Recorder()
        async with joined(handler) as (channel, server):
            async with channel.call(PATH):
                await handler.started.wait()
            with trio.fail_after(1):
                await handler.ended.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert server.open_calls == 0

    async def test_a_client_that_ends_the_connection_with_an_error_is_let_go_at_once(self, autojump_clock):
        near, far = trio.testing.memory_stream_pair()
        server = Server({PATH: echo}, Limits(), debug_errors=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far, "test")
            await near.send_all(PREFACE + frame(SETTINGS, 0, 0))
            await trio.testing.wait_all_tasks_blocked()
            (served,) = server.connections
            await near.send_all(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 1)))
            await trio.testing.wait_all_tasks_blocked()
            while await near.receive_some():  # to the end of the stream, without any time passing
                assert trio.current_time() == 0.0
            assert trio.current_time() == 0.0
            assert served.driver.end_reason is not None
            await near.aclose()

    async def test_an_error_of_the_caller_passes_through(self, autojump_clock):
        handler = Recorder()

        async def fail() -> None:
            await handler.started.wait()
            raise LookupError

        async with joined(handler) as (channel, _):
            with pytest.raises(LookupError):
                async with channel.call(PATH):
                    await fail()
            await handler.ended.wait()

    async def test_the_deadline_reaches_both_sides(self, autojump_clock):
        handler = Recorder()
        async with joined(handler) as (channel, _):
            began = trio.current_time()
            with pytest.raises(RpcError) as caught:
                async with channel.call(PATH, timeout_s=3600) as call:
                    await call.receive()
            assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
            await handler.ended.wait()
            assert 3600 <= trio.current_time() - began < 3601
            assert handler.calls[0].deadline == pytest.approx(began + 3600, abs=1)

    async def test_the_server_keeps_the_deadline_by_itself(self, autojump_clock):
        async def patient(call: Call) -> None:
            await call.send(b"hello")
            await trio.sleep_forever()

        async with joined(patient) as (channel, _), channel.call(PATH, timeout_s=5) as call:
            assert await call.receive() == b"hello"
            call._scope.deadline = math.inf
            assert (await call.status()).code is StatusCode.DEADLINE_EXCEEDED
            assert trio.current_time() >= 5

    async def test_an_ended_call_has_no_deadline(self, autojump_clock):
        async def quick(call: Call) -> None:
            await call.send(b"x")

        async with joined(quick) as (channel, _), channel.call(PATH, timeout_s=1) as call:
            assert await call.receive() == b"x"
            assert await call.receive() is None
            await trio.sleep(100)

    async def test_a_disconnect_reaches_every_handler(self, autojump_clock):
        handlers = [Recorder() for _ in range(3)]
        waiting = iter(handlers)

        async def handler(call: Call) -> None:
            await next(waiting)(call)

        async with joined(handler) as (channel, server):
            async with channel.call(PATH) as one, channel.call(PATH), channel.call(PATH):
                for recorder in handlers:
                    await recorder.started.wait()
                await trio.aclose_forcefully(channel.driver._transport)
                for recorder in handlers:
                    await recorder.ended.wait()
                with pytest.raises(RpcError) as caught:
                    await one.receive()
                assert caught.value.code is StatusCode.UNAVAILABLE
            await trio.testing.wait_all_tasks_blocked()
            assert server.connections == set()

    async def test_clean_up_after_a_cancel_does_not_hang(self, autojump_clock):
        seen = []
        started = trio.Event()

        async def handler(call: Call) -> None:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    for operation in (call.receive(), call.send(b"bye")):
                        try:
                            await operation
                        except trio.BrokenResourceError as error:
                            seen.append(str(error))

        async with joined(handler) as (channel, _):
            async with channel.call(PATH):
                await started.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert seen == ["the client cancelled the call"] * 2

    async def test_a_send_cancelled_inside_its_message_spoils_no_other(self, autojump_clock):
        async with joined(Recorder()) as (channel, _), channel.call(PATH) as call:
            await call.send(bytes(1_000_000))  # larger than the window, but accepted as the first message
            with trio.move_on_after(1) as scope:
                await call.send(bytes(1_000_000))
            assert scope.cancelled_caught
            with pytest.raises(trio.BrokenResourceError):
                await call.send(b"next")

    async def test_tasks_return_to_what_they_were(self, autojump_clock):
        async def half_way(call: Call) -> None:
            await call.receive()
            await trio.sleep_forever()

        async with joined(half_way) as (channel, server):
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(200):
                async with channel.call(PATH) as call:
                    await call.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == before
            assert server.open_calls == 0
            (connection,) = server.connections
            assert connection.driver.connection.open_streams == 0
            assert channel.driver.streams == {}
            assert channel._calls == {}


class TestBackpressure:
    async def test_a_stalled_stream_does_not_stall_its_neighbour(self, autojump_clock):
        calls: list[Call] = []

        async def handler(call: Call) -> None:
            if ("stall", "yes") in call.metadata:
                calls.append(call)
                await trio.sleep_forever()
            await echo(call)

        limits = Limits(connection_window_bytes=131_072)
        async with (
            joined(handler, server_limits=limits) as (channel, _),
            channel.call(PATH, (("stall", "yes"),)) as stalled,
            channel.call(PATH) as lively,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.flood, stalled)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(1000):
                await lively.send(bytes(640))
                assert await lively.receive() == bytes(640)
            assert calls[0].unread_bytes <= limits.stream_window_bytes
            assert calls[0].unread_messages > 100
            nursery.cancel_scope.cancel()

    async def flood(self, call):
        while True:
            await call.send(bytes(640))

    async def test_a_client_that_stops_reading_stops_its_own_call(self, autojump_clock):
        sent = []

        async def pour(call: Call) -> None:
            while True:
                await call.send(bytes(1000))
                sent.append(1000)

        limits = Limits(stream_window_bytes=65_535)
        async with (
            joined(pour, client_limits=limits, server_limits=Limits(write_timeout_s=0)) as (channel, _),
            channel.call(PATH) as call,
        ):
            await trio.testing.wait_all_tasks_blocked()
            assert sum(sent) <= 65_535
            assert call.unread_bytes <= 65_535
            for _ in range(1000):
                assert len(await call.receive()) == 1000

    async def test_a_response_that_is_never_read_ends_its_call(self, autojump_clock):
        async def pour(call: Call) -> None:
            while True:
                await call.send(bytes(1000))

        async with joined(pour) as (channel, _), channel.call(PATH) as call:
            status = await call.status()
            assert status.code is StatusCode.RESOURCE_EXHAUSTED
            assert trio.current_time() >= 60
            assert channel.driver.end_reason is None

    async def test_a_peer_that_accepts_nothing_is_cut(self, autojump_clock):
        """A full socket makes senders wait, memory stays flat, and the timeout ends the connection."""
        cancelled = trio.Event()

        async def pour(call: Call) -> None:
            try:
                while True:
                    await call.send(bytes(1000))
            finally:
                cancelled.set()

        near, far = trio.testing.memory_stream_pair()
        far.send_stream.send_all_hook = trio.sleep_forever
        server = Server({PATH: pour}, Limits(settings_timeout_s=0, keepalive_interval_s=0), debug_errors=False)
        client = Connection(client_side=True, limits=Limits(stream_window_bytes=1 << 30))
        client.initiate_connection()
        client.start_request(PATH, authority="there")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            await near.send_all(client.data_to_send() + frame(8, 0, 0, (1 << 30).to_bytes(4, "big")))
            await trio.testing.wait_all_tasks_blocked()
            (connection,) = server.connections
            assert connection.driver.unsent_bytes < Limits().high_water_bytes + 2_000
            await near.send_all(frame(6, 0, 0, bytes(8)) * 1000)  # no sender waits before the answers to pings
            await trio.testing.wait_all_tasks_blocked()
            assert connection.driver.unsent_bytes < Limits().high_water_bytes + 20_000
            await cancelled.wait()
            assert 60 <= trio.current_time() < 62
        assert server.connections == set()

    async def test_two_senders_on_one_stream_are_an_error(self, autojump_clock):
        async with joined(Recorder()) as (channel, _), channel.call(PATH) as call, trio.open_nursery() as nursery:
            await call.send(bytes(1_000_000))
            nursery.start_soon(call.send, bytes(1_000_000))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await call.send(b"x")
            nursery.cancel_scope.cancel()

    async def test_a_message_can_be_seen_before_its_turn(self, autojump_clock):
        found = trio.Event()

        async def handler(call: Call) -> None:
            first = await call.take()
            while b"CANCEL" not in call.unread():
                await call.wait_unread_changed()
            assert first is not None
            assert call.unread_messages == 3
            found.set()

        async with joined(handler) as (channel, _), channel.call(PATH) as call:
            for message in (b"1", b"2", b"3", b"CANCEL"):
                await call.send(message)
                await trio.testing.wait_all_tasks_blocked()
            await found.wait()
            assert await call.status() == Status()

    async def test_what_is_taken_but_not_acknowledged_holds_the_client(self, autojump_clock):
        taken = []
        proceed = trio.Event()

        async def handler(call: Call) -> None:
            while (message := await call.take()) is not None:
                taken.append(message)
                if proceed.is_set():
                    call.acknowledge(message)
                elif len(taken) == 60:
                    await proceed.wait()
                    for held in taken:
                        call.acknowledge(held)

        sent = []

        async def send(call):
            for _ in range(200):
                await call.send(bytes(1000))
                sent.append(1)
            call.half_close()

        limits = Limits(stream_window_bytes=65_535)
        async with (
            joined(handler, server_limits=limits) as (channel, _),
            channel.call(PATH) as call,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send, call)
            await trio.testing.wait_all_tasks_blocked()
            assert len(sent) <= 65
            proceed.set()
            assert await call.status() == Status()
        assert len(taken) == 200

    async def test_nowait(self, autojump_clock):
        async with joined() as (channel, _), channel.call(PATH) as call:
            with pytest.raises(trio.WouldBlock):
                call.receive_nowait()
            await call.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert call.receive_nowait() == b"x"
            call.half_close()
            await trio.testing.wait_all_tasks_blocked()
            assert call.receive_nowait() is None

    async def test_a_busy_handler_lets_others_run(self, autojump_clock):
        turns = 0

        async def handler(call: Call) -> None:
            before = turns
            for _ in range(300):
                await call.receive()
            assert turns > before
            await call.send(b"done")

        async with joined(handler) as (channel, _), channel.call(PATH) as call, trio.open_nursery() as nursery:

            async def tick():
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            for _ in range(300):
                await call.send(b"x")
            nursery.start_soon(tick)
            assert await call.receive() == b"done"
            nursery.cancel_scope.cancel()


class TestEndings:
    async def test_a_server_that_dies_hangs_nobody(self, autojump_clock):
        handler = Recorder()
        async with joined(handler) as (channel, server):
            async with channel.call(PATH) as call:
                await handler.started.wait()
                (connection,) = server.connections
                await trio.aclose_forcefully(connection.driver._transport)
                for operation in (call.receive, call.initial_metadata):
                    with pytest.raises(RpcError) as caught:
                        await operation() or await call.receive()
                    assert caught.value.code is StatusCode.UNAVAILABLE
                assert (await call.status()).code is StatusCode.UNAVAILABLE
            with pytest.raises(RpcError) as caught:
                async with channel.call(PATH):
                    pass
            assert caught.value.code is StatusCode.UNAVAILABLE

    async def test_a_drain_lets_calls_finish(self):
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(_serve, echo, None)
                async with open_channel("127.0.0.1", server.port) as channel, channel.call(PATH) as call:
                    await call.send(b"before")
                    assert await call.receive() == b"before"
                    server.drain(30)
                    await call.send(b"after")
                    assert await call.receive() == b"after"
                    with pytest.raises(RpcError) as caught:
                        async with channel.call(PATH) as late:
                            await late.receive()
                    assert caught.value.code is StatusCode.UNAVAILABLE
                    call.half_close()
                    assert await call.receive() is None
                # and `serve` returns

    @pytest.mark.parametrize("answers", [True, False], ids=["the ping is answered", "it is not"])
    async def test_a_drain_is_announced_before_it_is_final(self, autojump_clock, answers):
        """RFC 9113, 6.8: a call that was made before its client could know of the end is answered, not cut."""
        near, far = trio.testing.memory_stream_pair()
        client, handler = RawClient(), Recorder()
        server = Server({PATH: handler}, Limits(), debug_errors=False)

        async def exchange(data):
            await near.send_all(data)
            await trio.testing.wait_all_tasks_blocked()
            return frames_of(bytes(await near.receive_some()), client.decoder)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            await exchange(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0) + client.headers(1))
            server.drain(30)
            nursery.start_soon(server.close_connections)
            announced, (ping, _, _, asked) = await exchange(b"")
            assert (announced[0], announced[3][:8]) == (GOAWAY, struct.pack(">II", 2**31 - 1, 0))
            assert ping == PING
            ((_, _, _, answer),) = await exchange(client.headers(3, end=True))
            assert (answer["grpc-status"], answer["grpc-retry-pushback-ms"]) == ("14", "1000")
            if not answers:
                await trio.sleep(1.1)
            (final,) = await exchange(frame(PING, 1, 0, asked) if answers else b"")
            assert (final[0], final[3][:8]) == (GOAWAY, struct.pack(">II", 3, 0))
            ((kind, _, _, code),) = await exchange(client.headers(5, end=True))
            assert (kind, code) == (RST, struct.pack(">I", ResetCode.REFUSED_STREAM))
            assert not handler.ended.is_set()
            near.send_stream.close()

    async def test_a_drain_has_an_end(self):
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                handler = Recorder()
                server = await nursery.start(_serve, handler, None)
                async with open_channel("127.0.0.1", server.port) as channel, channel.call(PATH) as call:
                    await handler.started.wait()
                    server.drain(0)
                    status = await call.status()
                    assert (status.code, status.message) == (StatusCode.UNAVAILABLE, "the server is shutting down")
                    assert dict(status.metadata)["grpc-retry-pushback-ms"] == "1000"

    async def test_who_does_not_speak_http2(self, autojump_clock):
        for reply in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
            near, far = trio.testing.memory_stream_pair()
            await far.send_all(reply)
            if not reply:
                await far.aclose()
            with pytest.raises(RpcError) as caught:
                async with channel_over(near, "there"):
                    pass
            assert caught.value.code is StatusCode.UNAVAILABLE

    async def test_who_says_nothing(self, autojump_clock):
        near, _far = trio.testing.memory_stream_pair()
        with pytest.raises(RpcError) as caught:
            async with channel_over(near, "there", limits=Limits(preface_timeout_s=7)):
                pass
        assert caught.value.code is StatusCode.UNAVAILABLE
        assert "HTTP/2" in caught.value.message
        assert 7 <= trio.current_time() < 9

    async def test_a_silent_client_is_not_kept(self, autojump_clock):
        _near, far = trio.testing.memory_stream_pair()
        server = Server({}, Limits(), debug_errors=False)
        await server.accept(far)
        assert 10 <= trio.current_time() < 12

    async def test_nobody_there(self):
        with pytest.raises(RpcError) as caught:
            async with open_channel("127.0.0.1", 1, connect_timeout=5):
                pass
        assert caught.value.code is StatusCode.UNAVAILABLE

    async def test_a_breach_by_one_client_is_nobody_elses(self):
        with trio.fail_after(120):
            async with listening() as server, open_channel("127.0.0.1", server.port) as channel:
                async with await trio.open_tcp_stream("127.0.0.1", server.port) as bad:
                    await bad.send_all(b"GET / HTTP/1.1\r\n\r\n")
                    with suppress(trio.BrokenResourceError):  # a reset closes it just as well
                        while await bad.receive_some():
                            pass
                async with channel.call(PATH) as call:
                    await call.send(b"x")
                    assert await call.receive() == b"x"


class TestLimits:
    async def test_a_client_waits_for_as_many_calls_as_it_is_told(self, autojump_clock):
        """The limit is the one in the server's SETTINGS."""
        near, far = trio.testing.memory_stream_pair()
        connection = Connection(client_side=False, limits=Limits(max_streams=2))
        started = []
        driver = Driver(far, connection, Limits(), on_event=started.append, on_end=lambda reason: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            async with channel_over(near, "there") as channel, trio.open_nursery() as calls:

                async def one():
                    async with channel.call(PATH) as call:
                        await call.status()

                for _ in range(6):
                    calls.start_soon(one)
                for served in (2, 4, 6):
                    await trio.testing.wait_all_tasks_blocked()
                    requests = [event for event in started if isinstance(event, RequestStarted)]
                    assert len(requests) == served
                    for request in requests[-2:]:
                        connection.end_response(request.stream_id, Status())
                    driver.wake_writer()

    async def test_calls_over_the_limit_are_refused_at_once(self, autojump_clock):
        async with joined(server_limits=Limits(max_streams=2)) as (channel, _):
            async with channel.call(PATH) as first, channel.call(PATH) as second:
                async with channel.call(PATH) as third:
                    status = await third.status()
                assert status.code is StatusCode.RESOURCE_EXHAUSTED
                assert dict(status.metadata)["grpc-retry-pushback-ms"] == "1000"
                for call in (first, second):
                    await call.send(b"x")
                    assert await call.receive() == b"x"
            async with channel.call(PATH) as call:
                await call.send(b"x")
                assert await call.receive() == b"x"

    async def test_connections_over_the_limit_are_told_so_and_closed(self):
        with trio.fail_after(120):
            async with (
                listening(limits=Limits(max_connections=1)) as server,
                open_channel("127.0.0.1", server.port) as first,
            ):
                async with open_channel("127.0.0.1", server.port) as second:
                    async with second.call(PATH) as call:
                        status = await call.status()
                    assert status.code is StatusCode.RESOURCE_EXHAUSTED
                    assert "1 connections" in status.message
                    assert dict(status.metadata)["grpc-retry-pushback-ms"] == "1000"
                    with pytest.raises(RpcError, match="connections"):  # a GOAWAY has come
                        async with second.call(PATH) as call:
                            await call.receive()
                async with first.call(PATH) as call:
                    await call.send(b"x")
                    assert await call.receive() == b"x"

    async def test_an_address_in_use_is_a_clear_error(self):
        async with listening() as server:
            with pytest.raises(AddressInUse, match=f"127.0.0.1:{server.port} is in use"):
                await serve({}, port=server.port)

    async def test_an_oversize_message_ends_only_its_call(self, autojump_clock):
        limits = Limits(max_message_bytes=1000)
        async with joined(server_limits=limits) as (channel, _):
            async with channel.call(PATH) as call:
                await call.send(bytes(1001))
                assert (await call.status()).code is StatusCode.RESOURCE_EXHAUSTED
            async with channel.call(PATH) as call:
                await call.send(bytes(1000))
                assert await call.receive() == bytes(1000)

    async def test_a_message_cut_by_its_client_is_no_clean_end(self, autojump_clock):
        ends = []

        async def handler(call: Call) -> None:
            ends.append(await call.receive())

        async with joined(handler) as (channel, _), channel.call(PATH) as call:
            connection = channel.driver.connection
            connection.send(call.stream_id, prefix(100) + b"half")
            connection.end_request(call.stream_id)
            channel.driver.wake_writer()
            assert (await call.status()).code is StatusCode.DATA_LOSS
        assert ends == []
