from __future__ import annotations

import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.transport.sansio_link import RawClient, frame, message
from tests.transport.test_driver import PATH, echo, joined
from transport.client.channel import Channel, channel_over
from transport.grpc.connection import Connection
from transport.grpc.events import RequestStarted
from transport.grpc.flow_control import InboundFlow
from transport.grpc.framing import FramingError, MessageReader, beginning, inflating, pack
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.status import RpcError, StatusCode
from transport.server import Server
from transport.server.call import Call

DATA = 0


def packed(data: bytes, bits: int = 31) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


BITS = {"gzip": 31, "deflate": 15}


def inflated(data: bytes, encoding: str = "gzip", most: int = 1 << 20) -> bytes:
    return b"".join(inflating(data, encoding, most))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("plain", [bytes(10_000), bytes(1 << 20), random.Random(1).randbytes(300_000), b""], ids=len)
def test_what_is_compressed_is_read_back(encoding, plain):
    content = packed(plain, BITS[encoding])
    ((kept, size, named),) = MessageReader(1 << 20, encoding).feed(message(content, flag=1))
    assert (kept, size, named) == (content, 5 + len(content), encoding)
    assert inflated(kept, encoding) == plain
    assert plain.startswith(beginning(kept, encoding))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_is_smaller(encoding):
    head, content = pack(bytes(10_000), encoding)
    assert head[0] == 1
    assert len(content) < 100
    assert inflated(content, encoding) == bytes(10_000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_gets_no_smaller_goes_as_it_is(encoding):
    head, content = pack(b"short", encoding)
    assert (head, content) == (b"\0\0\0\0\5", b"short")


@pytest.mark.parametrize(
    ("content", "fact"),
    [(packed(b"x") + b"y", "after its end"), (packed(b"x")[:-1], "cut short"), (b"nonsense", "damaged")],
)
def test_what_is_not_one_compressed_message(content, fact):
    with pytest.raises(FramingError, match=fact) as caught:
        inflated(content)
    assert caught.value.code is StatusCode.INTERNAL


def test_inflating_stops_at_the_limit():
    done: list[int] = []
    with pytest.raises(FramingError) as caught:
        done.extend(len(part) for part in inflating(packed(bytes(50 << 20)), "gzip", 1 << 20))
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert sum(done) <= 1 << 20


def test_what_waits_is_kept_as_it_came():
    """A window full of unread compression bombs holds one window, and nothing of the shared budget."""
    budget = ByteBudget(0)
    inbound = InboundFlow(Limits(max_message_bytes=1 << 20), budget, "gzip")
    bomb = message(packed(bytes(1_000_000)), flag=1)
    for _ in range(200):
        ((content, held, encoding),) = inbound.feed(bomb, len(bomb))
        assert (len(content) + 5, held, encoding) == (len(bomb), len(bomb), "gzip")


def test_an_unknown_encoding_is_told_the_known_ones():
    client = RawClient()
    sid, _ = client.open([*client.HEADERS, ("grpc-encoding", "snappy")])
    client.send(frame(DATA, 0, sid, message(b"x", flag=1)))
    answer = client.answer(sid)
    assert answer["grpc-status"] == "12"
    assert answer["grpc-accept-encoding"] == "identity,gzip,deflate"


@pytest.mark.parametrize(
    ("named", "accepted"),
    [("gzip", {"gzip"}), ("identity, deflate ,br", {"deflate"}), ("", set()), ("br", set())],
)
def test_what_a_client_accepts(named, accepted):
    client = RawClient()
    _, (event,) = client.open([*client.HEADERS, ("grpc-accept-encoding", named)])
    assert isinstance(event, RequestStarted)
    assert event.accepted_encodings == accepted


class TestACall:
    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_answers_compressed_when_it_says_so(self, autojump_clock, encoding):
        async def handler(call: Call) -> None:
            assert call.compress(encoding)
            await call.send(bytes(1000))
            call.compressing = False
            await call.send(bytes(1000))
            call.compressing = True
            await call.send(bytes(1_000_000))

        async with joined(handler) as (channel, _), channel.call(PATH) as call:
            got = [await call.take() for _ in range(3)]
            assert [(len(m.data), m.encoding) for m in got if m] == [
                (1000, encoding),
                (1000, None),
                (1_000_000, encoding),
            ]
            for message in got:
                assert message is not None
                call.acknowledge(message)
            assert await call.receive() is None

    async def test_does_not_where_the_client_takes_none(self, autojump_clock):
        async def handler(call: Call) -> None:
            call.accepted_encodings = frozenset({"deflate"})
            assert not call.compress("gzip")
            await call.send(bytes(1000))

        async with joined(handler) as (channel, _), channel.call(PATH) as call:
            message = await call.take()
            assert message is not None
            assert message.encoding is None

    async def test_compresses_nothing_unasked(self, autojump_clock):
        async with joined() as (channel, _), channel.call(PATH) as call:
            await call.send(bytes(1000))
            message = await call.take()
            assert message is not None
            assert message.encoding is None

    async def test_takes_what_a_client_compresses(self, autojump_clock):
        seen = []

        async def handler(call: Call) -> None:
            while (message := await call.take()) is not None:
                seen.append((len(message.data), message.encoding))
                call.acknowledge(message)

        async with joined(handler) as (channel, _):
            connection = channel.driver.connection
            sid = connection.start_request(PATH, authority="there", encoding="gzip")
            head, content = pack(bytes(5000), "gzip")
            connection.send(sid, head + content)
            connection.end_request(sid)
            channel.driver.wake_writer()
            await trio.testing.wait_all_tasks_blocked()
        assert seen == [(5000, "gzip")]

    async def test_is_failed_by_what_cannot_be_inflated(self, autojump_clock):
        seen = []

        async def handler(call: Call) -> None:
            try:
                seen.append(await call.receive())
            except trio.BrokenResourceError as error:
                seen.append(error)
                raise

        limits = Limits(max_message_bytes=100_000)
        async with joined(handler, server_limits=limits) as (channel, server):
            async with channel.call(PATH, encoding="gzip") as call:
                await call.send(bytes(100_001))
                status = await call.status()
            assert status.code is StatusCode.RESOURCE_EXHAUSTED
            assert "over the limit of 100000 bytes" in status.message
            assert server.open_calls == 0
        assert [type(each) for each in seen] == [trio.BrokenResourceError]

    async def test_reads_what_its_server_cannot_have_meant_as_an_error(self, autojump_clock):
        async def handler(call: Call) -> None:
            call.compress("gzip")
            await call.send(bytes(100_001))

        limits = Limits(max_message_bytes=100_000)
        async with joined(handler, client_limits=limits) as (channel, _), channel.call(PATH) as call:
            with pytest.raises(RpcError) as caught:
                await call.receive()
            assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED

    async def test_loses_nothing_when_receiving_is_cancelled(self, autojump_clock):
        async def handler(call: Call) -> None:
            call.compress("gzip")
            await call.send(bytes(10_000_000))

        async with joined(handler) as (channel, _), channel.call(PATH) as call, trio.open_nursery() as nursery:
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(call.receive)
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            assert call.unread_messages == 1
            nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
            with trio.CancelScope(shield=True):
                assert await call.receive() == bytes(10_000_000)

    async def test_sees_a_compressed_message_before_its_turn(self, autojump_clock):
        async def handler(call: Call) -> None:
            while call.unread_messages < 2:
                await call.wait_unread_changed()
            first, second = call.unread()
            assert (set(first), second) == ({0}, b"CANCEL" * 10)
            assert len(first) < 1000
            await call.send(b"seen")

        async with joined(handler) as (channel, _), channel.call(PATH, encoding="gzip") as call:
            await call.send(bytes(1_000_000))
            await call.send(b"CANCEL" * 10)
            assert await call.receive() == b"seen"


class TestNeighbours:
    """Between two messages of one client, only a bounded number of slices is inflated for others."""

    MOST_SLICES = 24  # one for each of three calls, in each of the at most eight turns of a round trip
    SLICE_BYTES = 128 * 1024

    async def test_do_not_wait_for_what_others_have_inflated(self, autojump_clock, monkeypatch):
        done: list[int] = []
        inflate = Connection.inflating

        def counting(connection, message):
            for part in inflate(connection, message):
                done.append(len(part))
                yield part

        monkeypatch.setattr(Connection, "inflating", counting)
        server = Server({PATH: echo, "/t.T/Sink": sink}, Limits(), debug_errors=False)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(self.send_bombs, server)
            async with connected(server, nursery) as channel, channel.call(PATH) as call:
                while not done:
                    await trio.lowlevel.checkpoint()
                for _ in range(30):
                    before = len(done)
                    await call.send(b"x")
                    assert await call.receive() == b"x"
                    assert len(done) - before <= self.MOST_SLICES
            assert len(done) > 100  # the others were served too
            assert max(done) <= self.SLICE_BYTES
            nursery.cancel_scope.cancel()

    async def send_bombs(self, server):
        """Send a message of 16 MB that compresses to about 16 kB."""
        async with (
            trio.open_nursery() as nursery,
            connected(server, nursery) as channel,
            channel.call("/t.T/Sink", encoding="gzip") as call,
        ):
            await call.send(bytes(16_000_000))
            await call.receive()


@asynccontextmanager
async def connected(server: Server, nursery: trio.Nursery) -> AsyncIterator[Channel]:
    near, far = trio.testing.memory_stream_pair()
    nursery.start_soon(server.accept, far)
    async with channel_over(near, "there") as channel:
        yield channel


async def sink(call: Call) -> None:
    while await call.receive() is not None:
        pass
