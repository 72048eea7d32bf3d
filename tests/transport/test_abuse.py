"""Hostile clients: the answer they get, the memory they can take, and their effect on other clients."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress

import hpack
import pytest
import trio
import trio.testing

from tests.transport.sansio_link import PREFACE, RawClient, frame, frames_of, message
from tests.transport.test_driver import PATH, Recorder, echo
from transport.client.channel import channel_over
from transport.grpc.connection import Connection, ResetCode
from transport.grpc.events import ConnectionFailed, MessageReceived, RequestStarted, StreamFailed, StreamReset
from transport.grpc.framing import prefix
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget, TokenBucket
from transport.grpc.status import Status, StatusCode
from transport.server import Server
from transport.server.access import AccessControl, AccessPolicy
from transport.server.call import Call, unary

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 0x1, 0x4
FLOOD = 20_000
HELD_MOST = 300_000
"""Bytes that a connection may hold for a client that completes no message: buffers, tables, streams."""

REQUEST = hpack.Encoder().encode(RawClient.HEADERS)
HUGE = b"\xff" * 9000 + b"\0"
"""An integer of 63,000 bits, for which hpack 3 takes about 7 ms; a block of 32 KiB takes it 80 ms."""
BOMB = hpack.Encoder().encode([("a", "b" * 4000)]) + b"\xbe" * 4000  # one table entry, referenced 4,000 times


def ids():
    return iter(range(1, 2**31, 2))


def requests(n):
    return b"".join(frame(HEADERS, END_HEADERS, sid, REQUEST) for sid, _ in zip(ids(), range(n), strict=False))


def resets(n):
    return b"".join(
        frame(HEADERS, END_HEADERS, sid, REQUEST) + frame(RST, 0, sid, bytes(4))
        for sid, _ in zip(ids(), range(n), strict=False)
    )


def setting(code, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", code, value))


WHOLE_CONNECTION = [
    ("no preface", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3, ResetCode.PROTOCOL_ERROR),
    ("a spoilt preface", PREFACE[:20] + b"XXXX" + frame(SETTINGS, 0, 0), ResetCode.PROTOCOL_ERROR),
    ("noise", PREFACE + frame(SETTINGS, 0, 0) + b"\x00\x00\x08\x06" + b"\xff" * 40, None),
    ("a frame of 16 MiB", PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", ResetCode.FRAME_SIZE_ERROR),
    ("headers that are no HPACK", PREFACE + frame(HEADERS, END_HEADERS, 1, b"\xff" * 40), ResetCode.PROTOCOL_ERROR),
    (
        "an HPACK index without end",
        PREFACE + frame(HEADERS, END_HEADERS, 1, b"\xff" * 16_384),
        ResetCode.PROTOCOL_ERROR,
    ),
    ("a huge HPACK index", PREFACE + frame(HEADERS, END_HEADERS, 1, HUGE), ResetCode.PROTOCOL_ERROR),
    ("a huge HPACK length", PREFACE + frame(HEADERS, END_HEADERS, 1, b"\x40\x01a" + HUGE), ResetCode.PROTOCOL_ERROR),
    ("a huge HPACK table", PREFACE + frame(HEADERS, END_HEADERS, 1, b"\x3f" + HUGE[1:]), ResetCode.PROTOCOL_ERROR),
    ("an HPACK bomb", PREFACE + frame(HEADERS, END_HEADERS, 1, BOMB), ResetCode.ENHANCE_YOUR_CALM),
    (
        "a block of headers without end",
        PREFACE + frame(HEADERS, 0, 1, REQUEST) + frame(CONTINUATION, 0, 1, bytes(16_384)) * 100,
        ResetCode.ENHANCE_YOUR_CALM,
    ),
    (
        "empty CONTINUATIONs",
        PREFACE + frame(HEADERS, 0, 1, REQUEST) + frame(CONTINUATION, 0, 1) * FLOOD,
        ResetCode.ENHANCE_YOUR_CALM,
    ),
    ("another frame amid headers", PREFACE + frame(HEADERS, 0, 1) + frame(PING, 0, 0, bytes(8)), None),
    ("a CONTINUATION of nothing", PREFACE + frame(CONTINUATION, END_HEADERS, 1, REQUEST), None),
    ("a promise", PREFACE + frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + REQUEST), None),
    ("rapid reset", PREFACE + resets(FLOOD), ResetCode.ENHANCE_YOUR_CALM),
    ("refused streams", PREFACE + requests(FLOOD), ResetCode.ENHANCE_YOUR_CALM),
    ("PINGs", PREFACE + frame(PING, 0, 0, bytes(8)) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("answers to no PING", PREFACE + frame(PING, 1, 0, bytes(8)) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("SETTINGS", PREFACE + frame(SETTINGS, 0, 0) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("acknowledged SETTINGS", PREFACE + frame(SETTINGS, 1, 0) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("PRIORITYs", PREFACE + frame(PRIORITY, 0, 3, bytes(5)) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("WINDOW_UPDATEs", PREFACE + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("frames of no known kind", PREFACE + frame(99, 0, 0, bytes(100)) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("empty DATA", PREFACE + requests(1) + frame(DATA, 0, 1) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    (
        "padding without data",
        PREFACE + requests(1) + frame(DATA, 8, 1, b"\x05" + bytes(5)) * FLOOD,
        ResetCode.ENHANCE_YOUR_CALM,
    ),
    ("a call reset for ever", PREFACE + requests(1) + frame(RST, 0, 1, bytes(4)) * FLOOD, ResetCode.ENHANCE_YOUR_CALM),
    ("a reset of a stream never opened", PREFACE + frame(RST, 0, 1, bytes(4)), ResetCode.PROTOCOL_ERROR),
    ("the connection's window too far", PREFACE + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), None),
    ("no window update", PREFACE + frame(WINDOW_UPDATE, 0, 0, bytes(4)), ResetCode.PROTOCOL_ERROR),
    ("a window of 4 GiB", PREFACE + setting(4, 2**32 - 1), ResetCode.FLOW_CONTROL_ERROR),
    ("frames of one byte", PREFACE + setting(5, 1), ResetCode.PROTOCOL_ERROR),
    ("DATA on no stream", PREFACE + frame(DATA, 0, 0, b"x"), ResetCode.PROTOCOL_ERROR),
    ("DATA on a stream never opened", PREFACE + frame(DATA, 0, 99, b"x"), ResetCode.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(("data", "code"), [row[1:] for row in WHOLE_CONNECTION], ids=[r[0] for r in WHOLE_CONNECTION])
def test_what_ends_the_connection(data, code):
    """A GOAWAY says why, further bytes are ignored, and nothing is kept of the connection."""
    server = Connection(client_side=False)
    server.initiate_connection()
    server.data_to_send()
    tracemalloc.start()
    try:
        events, answer, most = [], b"", 0
        for start in range(0, len(data), 32_768):
            events += server.receive_data(data[start : start + 32_768], max_frames=64)
            answer = server.data_to_send() or answer
            while server.has_more:
                events = events[-10:] + server.receive_data(b"", max_frames=64)
                answer = server.data_to_send() or answer
            most = max(most, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert isinstance(events[-1], ConnectionFailed)
    goaway = answer[answer.rindex(b"\x07\x00\x00\x00\x00\x00", 0, -8) - 3 :]
    assert goaway[3] == GOAWAY
    if code is not None:
        assert int.from_bytes(goaway[13:17], "big") == code
    assert b" at 0x" not in goaway, "where things lie in our memory is nobody's business"
    assert server.open_streams == 0
    assert server.receive_data(frame(PING, 0, 0, bytes(8))) == []
    assert server.data_to_send() == b""
    assert most < HELD_MOST + 1000 * 1000  # plus the largest number of open streams, each with its request


ONE_STREAM = [
    ("its window too far", lambda sid: frame(WINDOW_UPDATE, 0, sid, b"\x7f\xff\xff\xff"), ResetCode.FLOW_CONTROL_ERROR),
    ("an empty window update", lambda sid: frame(WINDOW_UPDATE, 0, sid, bytes(4)), ResetCode.PROTOCOL_ERROR),
    (
        "more than its window",
        lambda sid: frame(DATA, 0, sid, prefix(1_000_000)) + frame(DATA, 0, sid, bytes(16_000)) * 17,
        ResetCode.FLOW_CONTROL_ERROR,
    ),
    (
        "more than its window, padded",
        lambda sid: frame(DATA, 0, sid, prefix(1_000_000)) + frame(DATA, 8, sid, b"\0" + bytes(16_000)) * 17,
        ResetCode.FLOW_CONTROL_ERROR,
    ),
    ("4 GiB announced", lambda sid: frame(DATA, 0, sid, b"\0\xff\xff\xff\xff"), StatusCode.RESOURCE_EXHAUSTED),
    ("a bad flag", lambda sid: frame(DATA, 0, sid, message(b"", flag=9)), StatusCode.INTERNAL),
    ("empty messages", lambda sid: frame(DATA, 0, sid, message(b"") * 3000) * 2, StatusCode.RESOURCE_EXHAUSTED),
    ("half a message", lambda sid: frame(DATA, END_STREAM, sid, b"\0\0\0\0\5half"), StatusCode.DATA_LOSS),
    ("a priority over itself", lambda sid: frame(PRIORITY, 0, sid, sid.to_bytes(4, "big") + b"\0"), None),
]


@pytest.mark.parametrize(("make", "code"), [row[1:] for row in ONE_STREAM], ids=[row[0] for row in ONE_STREAM])
def test_what_ends_only_the_stream(make, code):
    # An unknown caller gets no credit during a large message, so its window can be exceeded.
    client = RawClient()
    client.server._large = False
    neighbour, _ = client.open()
    sid, _ = client.open()
    events = client.send(make(sid))
    if code is None:
        assert events == []
    elif isinstance(code, StatusCode):
        assert isinstance(events[-1], StreamFailed)
        assert client.answer(sid)["grpc-status"] == str(int(code))
    else:
        assert StreamReset(sid, code, remote=False) in events
        assert (RST, 0, sid, int(code).to_bytes(4, "big")) in client.replies()
    client.server.start_response(neighbour)
    client.server.end_response(neighbour, Status())
    assert client.answer(neighbour)["grpc-status"] == "0"
    assert client.works()


MADE_RESETS = {
    "an empty window update": lambda sid: frame(WINDOW_UPDATE, 0, sid, bytes(4)),
    "its window too far": lambda sid: frame(WINDOW_UPDATE, 0, sid, b"\x7f\xff\xff\xff"),
    "a bad message": lambda sid: frame(DATA, 0, sid, message(b"", flag=9)),
    "data after the end": lambda sid: frame(DATA, END_STREAM, sid, message(b"x")) + frame(DATA, 0, sid, b"x"),
    "a priority over itself": lambda sid: frame(PRIORITY, 0, sid, sid.to_bytes(4, "big") + b"\0"),
}


@pytest.mark.parametrize("make", MADE_RESETS.values(), ids=MADE_RESETS)
def test_streams_that_the_server_must_reset_are_paid_for(make):
    """Rapid reset by way of the server's own resets."""
    client = RawClient()
    for _ in range(3000):
        sid, events = client.open()
        events = events if client.server.failed else client.send(make(sid))
        client.replies()
        if client.server.failed:
            break
    assert isinstance(events[-1], ConnectionFailed)
    assert client.server.open_streams == 0


class TestRates:
    def test_a_bucket_fills_with_time(self):
        bucket = TokenBucket(10, 5)
        assert [bucket.spend(1, 100.0) for _ in range(6)] == [True] * 5 + [False]
        assert not bucket.spend(1, 100.05)
        assert bucket.spend(1, 100.3)
        assert bucket.spend(5, 1000)
        assert not bucket.spend(0.1, 1000)

    def test_a_slow_stream_of_pings_goes_on_for_ever(self):
        client = RawClient()
        for tick in range(10_000):
            assert client.send(frame(PING, 0, 0, bytes(8)), at=tick / 100) == []
            client.replies()

    def test_what_carries_something_pays_for_what_does_not(self):
        """Some clients send a ping and two window updates for each message they get."""
        client = RawClient()
        sid, _ = client.open()
        client.server.start_response(sid)
        update = frame(WINDOW_UPDATE, 0, sid, b"\0\0\0\x0a") + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x0a")
        for _ in range(10_000):
            events = client.send(frame(DATA, 0, sid, message(b"hello")) + update + frame(PING, 0, 0, bytes(8)))
            for event in events[:1]:
                client.server.take(event)
                client.server.acknowledge(event)
            client.server.send(sid, message(b"hello"))
            client.server.data_to_send()
            assert not client.server.failed

    def test_calls_that_end_well_pay_for_those_that_do_not(self):
        client = RawClient()
        for _ in range(5000):
            sid, _ = client.open()
            client.server.end_response(sid, Status())
            sid, _ = client.open()
            client.send(frame(RST, 0, sid, bytes(4)))
            client.replies()
            assert not client.server.failed


class TestTables:
    """Memory that a peer's SETTINGS can take."""

    def test_a_huge_table_for_the_headers_we_send_is_not_used(self):
        client = RawClient()
        client.send(setting(1, 2**32 - 1))
        for number in range(500):
            sid, _ = client.open()
            client.server.end_response(sid, Status(StatusCode.ABORTED, f"{number}" * 100))
            client.replies()
        table = client.server.h2_connection.encoder.header_table
        assert sum(len(name) + len(value) + 32 for name, value in table.dynamic_entries) <= 4096

    def test_settings_nobody_knows_are_not_kept(self):
        client = RawClient()
        for start in range(0, 60_000, 1000):
            client.send(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", start + n, 1 << 15) for n in range(9, 1000))))
        assert len(client.server.h2_connection.remote_settings) < 10


class TestLargeMessages:
    SMALL = Limits(stream_window_bytes=65_535, max_message_bytes=1 << 20)

    def pour(self, client, sid, size):
        events, left = [], prefix(size) + bytes(size)
        while left and not events:
            window = client.server.h2_connection.streams[sid].inbound_flow_control_window
            piece, left = left[: min(window, 16_384)], left[min(window, 16_384) :]
            if not piece:
                break
            events += client.send(frame(DATA, 0, sid, piece))
        return events

    def joined(self, budget, **more):
        client = RawClient(self.SMALL)
        server = Connection(client_side=False, limits=self.SMALL, budget=budget, **more)
        server.initiate_connection()
        server.receive_data(PREFACE + frame(SETTINGS, 0, 0))
        client.server = server
        client.replies()
        return client

    def test_all_connections_draw_on_one_budget(self):
        budget = ByteBudget(1_500_000)
        one, two = self.joined(budget), self.joined(budget)
        first, _ = one.open()
        assert len(self.pour(one, first, 1_000_000)) == 1
        assert 900_000 < budget.used_bytes < 1_000_005
        second, _ = two.open()
        (event,) = self.pour(two, second, 1_000_000)
        assert isinstance(event, StreamFailed)
        assert event.status.code is StatusCode.RESOURCE_EXHAUSTED
        assert budget.used_bytes < 1_000_005
        assert two.works()
        small, _ = two.open()  # a message that fits into a window needs no budget
        assert len(self.pour(two, small, 32_000)) == 1

    @pytest.mark.parametrize("end", ["taken", "reset", "answered", "closed", "failed"])
    def test_it_is_given_back(self, end):
        budget = ByteBudget(1_500_000)
        client = self.joined(budget)
        sid, _ = client.open()
        (event,) = self.pour(client, sid, 1_000_000)
        assert budget.used_bytes > 900_000
        match end:
            case "taken":
                client.server.take(event)
            case "reset":
                client.send(frame(RST, 0, sid, bytes(4)))
            case "answered":
                client.server.end_response(sid, Status())
            case "closed":
                client.server.close()
            case "failed":
                client.send(frame(DATA, 0, 0, b"x"))
        assert budget.used_bytes == 0

    def test_only_a_known_caller_may_draw_on_it(self):
        budget = ByteBudget(1_500_000)
        client = self.joined(budget, large=False)
        sid, _ = client.open()
        assert self.pour(client, sid, 1_000_000) == []
        assert client.server.h2_connection.streams[sid].inbound_flow_control_window == 0
        assert budget.used_bytes == 0
        client.server.allow_large(sid)
        assert client.server.h2_connection.streams[sid].inbound_flow_control_window > 0
        assert 0 < budget.used_bytes <= 65_535

    def test_a_call_is_told_of_before_anything_it_sends_is_looked_at(self):
        client = self.joined(ByteBudget(0), large=False)
        data = client.headers(1) + frame(DATA, 0, 1, message(b"x"))
        events = client.send(data)
        assert [type(event) for event in events] == [RequestStarted]
        assert client.server.has_more
        assert len(client.send(b"")) == 1

    def test_so_is_one_whose_headers_came_in_parts(self):
        client = self.joined(ByteBudget(0), large=False)
        head, rest = REQUEST[:9], REQUEST[9:]
        opening = frame(HEADERS, 0, 1, head) + frame(CONTINUATION, END_HEADERS, 1, rest)
        events = client.send(opening + frame(DATA, 0, 1, message(b"x")))
        assert [type(event) for event in events] == [RequestStarted]
        assert [type(event) for event in client.server.finish_turn()] == [MessageReceived]

    def test_no_room_found_late_is_told_late(self):
        """Taking the first message starts to credit the next one, which is too large for the budget."""
        client = self.joined(ByteBudget(1000))
        sid, _ = client.open()
        (event,) = client.send(frame(DATA, 0, sid, message(b"x") + prefix(500_000) + bytes(5000)))
        assert client.server.take(event)
        (failed,) = client.server.late_events()
        assert isinstance(failed, StreamFailed)
        assert client.answer(sid)["grpc-status"] == "8"


class TestSlowness:
    """Slow headers, slow messages and silence, on virtual time."""

    async def start(self, nursery, limits, handler=echo):
        near, far = trio.testing.memory_stream_pair()
        server = Server({PATH: handler}, limits, debug_errors=False)
        nursery.start_soon(server.accept, far)
        await near.send_all(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0))
        return near, server

    async def read_all(self, stream):
        found = b""
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                found += data
        return found

    @pytest.mark.parametrize(
        ("beginning", "limits", "lasts"),
        [
            (b"", Limits(idle_timeout_s=100, keepalive_interval_s=0), 100),
            (b"", Limits(keepalive_interval_s=30, keepalive_timeout_s=5), 35),
            (b"\0", Limits(frame_timeout_s=30, keepalive_interval_s=0), 30),
            (frame(HEADERS, 0, 1, REQUEST), Limits(frame_timeout_s=30, keepalive_interval_s=0), 30),
            (frame(HEADERS, END_HEADERS, 1, REQUEST)[:12], Limits(frame_timeout_s=30, keepalive_interval_s=0), 30),
        ],
        ids=["idle", "silent", "a frame begun", "headers begun", "part of a frame"],
    )
    async def test_who_is_silent_is_let_go(self, autojump_clock, beginning, limits, lasts):
        async with trio.open_nursery() as nursery:
            near, server = await self.start(nursery, limits)
            await near.send_all(beginning)
            answer = await self.read_all(near)
            assert lasts <= trio.current_time() <= lasts + 1.5
            assert b"\x07\x00" in answer  # a GOAWAY
            assert len(answer) < 500
        assert server.connections == set()

    async def test_a_byte_now_and_then_does_not_help(self, autojump_clock):
        async with trio.open_nursery() as nursery:
            near, _ = await self.start(nursery, Limits(frame_timeout_s=30))
            nursery.start_soon(self.drip, near, frame(HEADERS, END_HEADERS, 1, REQUEST), 5)
            await self.read_all(near)
            assert 30 <= trio.current_time() <= 36.5
            nursery.cancel_scope.cancel()

    async def drip(self, near, data, pause_s):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for byte in data:
                await trio.sleep(pause_s)
                await near.send_all(bytes([byte]))

    async def test_a_message_that_drips_in_ends_its_call(self, autojump_clock):
        handler = Recorder()
        async with trio.open_nursery() as nursery:
            near, server = await self.start(nursery, Limits(message_timeout_s=60, keepalive_interval_s=0), handler)
            await near.send_all(frame(HEADERS, END_HEADERS, 1, REQUEST) + frame(DATA, 0, 1, prefix(1000)))
            for _ in range(20):
                await trio.sleep(5)
                await near.send_all(frame(DATA, 0, 1, b"x"))
            assert handler.ended.is_set()
            assert server.connections
            near.send_stream.close()
        assert server.connections == set()

    @pytest.mark.parametrize(
        "sent",
        [b"", frame(DATA, 0, 1), frame(DATA, 0, 1, message(b"x"))],
        ids=["nothing", "an empty frame", "a message and no end"],
    )
    async def test_a_unary_call_does_not_wait_for_ever(self, autojump_clock, sent):
        """Its connection answers every ping, so only the call is ended."""

        async def never(request: bytes, call: Call) -> bytes:
            raise AssertionError("there was no request")

        async with trio.open_nursery() as nursery:
            near, server = await self.start(nursery, Limits(keepalive_interval_s=0), unary(never))
            await near.send_all(frame(HEADERS, END_HEADERS, 1, REQUEST) + sent)
            await trio.sleep(125)
            replies = frames_of(bytes(await near.receive_some()), hpack.Decoder())
            (answer,) = (headers for kind, _, _, headers in replies if kind == HEADERS)
            assert (answer["grpc-status"], answer["grpc-message"]) == ("4", "no whole message came within 60 s")
            assert (len(server.connections), server.open_calls) == (1, 0)
            nursery.cancel_scope.cancel()

    async def test_a_stream_may_be_silent(self, autojump_clock):
        handler = Recorder()
        limits = Limits(keepalive_interval_s=0, idle_timeout_s=0)
        async with trio.open_nursery() as nursery:
            near, _ = await self.start(nursery, limits, handler)
            await near.send_all(frame(HEADERS, END_HEADERS, 1, REQUEST) + frame(DATA, 0, 1, message(b"x")))
            await near.send_all(frame(HEADERS, END_HEADERS | END_STREAM, 3, REQUEST))
            await trio.sleep(3600)
            assert len(handler.calls) == 2
            assert not handler.ended.is_set()
            nursery.cancel_scope.cancel()

    async def test_who_does_not_acknowledge_settings(self, autojump_clock):
        near, far = trio.testing.memory_stream_pair()
        server = Server({PATH: echo}, Limits(), debug_errors=False)
        await near.send_all(PREFACE + frame(SETTINGS, 0, 0))
        await server.accept(far)
        assert 10 <= trio.current_time() <= 12

    async def test_a_client_that_answers_pings_stays(self, autojump_clock):
        server = Server({PATH: echo}, Limits(idle_timeout_s=0), debug_errors=False)
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            async with channel_over(near, "there") as channel, channel.call(PATH) as call:
                await trio.sleep(3600)
                await call.send(b"still there")
                assert await call.receive() == b"still there"

    async def test_a_server_gone_silent_ends_a_clients_calls(self, autojump_clock):
        near, far = trio.testing.memory_stream_pair()
        await far.send_all(frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0))
        async with channel_over(near, "there") as channel, channel.call(PATH) as call:
            status = await call.status()
        assert status.code is StatusCode.UNAVAILABLE
        assert 80 <= trio.current_time() <= 82


class TestTheLastWords:
    async def test_reach_a_client_that_is_still_sending(self):
        """On a real socket, because closing one with unread bytes would discard the GOAWAY."""
        with trio.fail_after(120):
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            server = Server({PATH: echo}, Limits(linger_timeout_s=60), debug_errors=False)
            port = listeners[0].socket.getsockname()[1]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, server.accept, listeners)
                answer = b""
                async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                    await client.send_all(PREFACE + frame(SETTINGS, 0, 0) + frame(DATA, 0, 0, b"x"))
                    await client.send_all(bytes(3_000_000))
                    while data := await client.receive_some():
                        answer += data
                assert answer[-200:].count(b"\x07\x00\x00\x00\x00\x00") == 1
                nursery.cancel_scope.cancel()

    async def test_are_not_waited_for_without_end(self, autojump_clock):
        near, far = trio.testing.memory_stream_pair()
        server = Server({PATH: echo}, Limits(), debug_errors=False)
        await near.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await server.accept(far)
        assert trio.current_time() <= 1.5


class TestNeighbours:
    """Between two messages of a well-behaved client, only a bounded part of a flood is handled."""

    MOST_TURNS = 12  # of an offender, during one round trip of a message
    FLOODS = {  # noqa: RUF012
        "PINGs": frame(PING, 0, 0, bytes(8)),
        "SETTINGS": frame(SETTINGS, 0, 0),
        "empty DATA": frame(DATA, 0, 1),
        "WINDOW_UPDATEs": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        "PRIORITYs": frame(PRIORITY, 0, 1, bytes(5)),
        "messages nobody asked for": frame(DATA, 0, 1, message(b"") * 100),
    }

    @pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
    async def test_get_their_turn(self, autojump_clock, flood):
        async def sink(call: Call) -> None:
            while await call.receive() is not None:
                pass

        calm = Limits(control_frames_burst=1 << 40, control_frames_per_s=1 << 40)
        server = Server({PATH: echo, "/t.T/Sink": sink}, calm, debug_errors=False)
        bad, far_bad = trio.testing.memory_stream_pair()
        near, far = trio.testing.memory_stream_pair()
        headers = [(":path", "/t.T/Sink") if name == ":path" else (name, value) for name, value in RawClient.HEADERS]
        opening = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)
        opening += frame(HEADERS, END_HEADERS, 1, hpack.Encoder().encode(headers))
        await bad.send_all(opening + flood * 100_000)
        handled: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            async with channel_over(near, "there") as channel, channel.call(PATH) as call:
                await call.send(b"x")
                await call.receive()
                (decent,) = server.connections
                nursery.start_soon(server.accept, far_bad)
                while len(server.connections) < 2:
                    await trio.lowlevel.checkpoint()
                (offender,) = server.connections - {decent}
                self.count(offender.driver, handled)
                seen = []
                for _ in range(30):
                    await call.send(b"x")
                    before = len(handled)
                    await call.receive()
                    seen.append(sum(handled[before:]))
                    assert len(handled) - before <= self.MOST_TURNS
            assert max(handled) <= min(calm.turn_frames * len(flood), calm.read_bytes) + len(opening)
            assert sum(handled) > 20 * calm.turn_frames * len(flood)  # there was a flood
            assert max(seen) <= self.MOST_TURNS * max(handled)
            nursery.cancel_scope.cancel()

    def count(self, driver, handled):
        """Record the bytes that each turn handles."""
        take, connection = driver._take, driver.connection

        def counting(data, received_at):
            before = connection.buffered_bytes + len(data)
            crowded = take(data, received_at)
            handled.append(before - connection.buffered_bytes)
            return crowded

        driver._take = counting

    MOBS = {"rapid resets": resets(3000), "calls": requests(3000), "PINGs": FLOODS["PINGs"] * 30_000}  # noqa: RUF012

    @pytest.mark.parametrize("flood", MOBS.values(), ids=MOBS)
    async def test_do_not_notice_how_many_offenders_there_are(self, autojump_clock, flood):
        limits = Limits(control_frames_burst=1 << 40, broken_streams_burst=1 << 40, max_streams=10_000)
        server = Server({PATH: echo}, limits, debug_errors=False)
        near, far = trio.testing.memory_stream_pair()
        turns: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            async with channel_over(near, "there") as channel, channel.call(PATH) as call:
                await call.send(b"x")
                await call.receive()
                for _ in range(self.OFFENDERS):
                    await self.join(nursery, server, flood, turns)
                for _ in range(30):
                    before, calls = len(turns), server.access.statistics().calls_by_token[""]
                    await call.send(b"x")
                    await call.receive()
                    assert len(turns) - before <= self.MOST_TURNS + self.OFFENDERS  # each may have read once more
                    assert server.access.statistics().calls_by_token[""] - calls <= self.MOST_TURNS + self.OFFENDERS
            assert len(turns) > 100  # the offenders were served too
            nursery.cancel_scope.cancel()

    OFFENDERS = 8

    async def join(self, nursery, server, flood, turns):
        known = set(server.connections)
        bad, far = trio.testing.memory_stream_pair()
        nursery.start_soon(server.accept, far)
        while server.connections == known:
            await trio.lowlevel.checkpoint()
        (offender,) = server.connections - known
        self.count(offender.driver, turns)
        await bad.send_all(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0) + flood)
        while offender.driver.connection.calls_seen < 1 and len(turns) < 1:
            await trio.lowlevel.checkpoint()


class TestACallThatIsOverWhenItHasBegun:
    """A call that ends in the same turn in which it begins is not run, and nothing is kept of it."""

    END = {  # noqa: RUF012
        "reset": frame(RST, 0, 1, bytes(4)),
        "broken": frame(DATA, 0, 1, message(b"", flag=9)),
        "the connection broken": frame(DATA, 0, 0, b"x"),
    }

    @pytest.mark.parametrize("end", END.values(), ids=END)
    async def test_is_never_run(self, autojump_clock, end):
        handler = Recorder()
        access = AccessControl(AccessPolicy(session_paths=frozenset({PATH})))
        server = Server({PATH: handler}, Limits(), debug_errors=False, access=access)
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept, far)
            await near.send_all(PREFACE + frame(SETTINGS, 0, 0) + requests(1) + end)
            await trio.testing.wait_all_tasks_blocked()
            assert access.statistics().calls_by_token == {"": 1}
            assert (access.statistics().sessions, server.open_calls, handler.calls) == (0, 0, [])
            nursery.cancel_scope.cancel()
