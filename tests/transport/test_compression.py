import zlib

import pytest
import trio.testing

from tests.transport.links import RawClient, frame, message
from tests.transport.test_driver import PATH, joined
from transport.calls import Call
from transport.events import MessageReceived, RequestStarted, StreamFailed
from transport.framing import FramingError, MessageReader, pack
from transport.guard import Budget
from transport.inbound import Inbound
from transport.limits import Limits
from transport.rpc_status import StatusCode

DATA = 0


def packed(data: bytes, bits: int = 31) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_is_read_back(encoding):
    head, content = pack(bytes(10_000), encoding)
    assert head[0] == 1
    assert len(content) < 100
    assert MessageReader(10_000, encoding).feed(head + content) == [(bytes(10_000), 5 + len(content), True)]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_gets_no_smaller_goes_as_it_is(encoding):
    head, content = pack(b"short", encoding)
    assert (head, content) == (b"\0\0\0\0\5", b"short")


def test_bytes_after_a_compressed_message_are_an_error():
    with pytest.raises(FramingError, match="after its end"):
        MessageReader(1000, "gzip").feed(message(packed(b"x") + b"y", flag=1))


def test_inflating_stops_at_the_limit():
    reader = MessageReader(1 << 20, "gzip")
    with pytest.raises(FramingError) as caught:
        reader.feed(message(packed(bytes(500 << 20)), flag=1))  # half a GB in half a MB
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED


class TestBombs:
    """A window of compressed messages, none of them read."""

    def test_what_they_are_inflated_is_drawn_from_the_budget(self):
        budget = Budget(3_000_000)
        limits = Limits(max_message_bytes=1 << 20)
        one, two = Inbound(limits, budget, "gzip"), Inbound(limits, budget, "gzip")
        bomb = message(packed(bytes(1_000_000)), flag=1)
        ((content, held, compressed),) = one.feed(bomb, len(bomb))
        assert compressed
        assert budget.used_bytes == 5 + 1_000_000 - len(bomb)
        two.feed(bomb, len(bomb))
        with pytest.raises(FramingError) as caught:
            two.feed(bomb * 2, 2 * len(bomb))
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        assert budget.used_bytes <= budget.limit_bytes
        one.take(content, held)
        two.close()
        assert budget.used_bytes == 0

    def test_one_stream_holds_no_more_than_a_window_and_a_message(self):
        client = RawClient(Limits(max_message_bytes=1 << 20))
        sid, _ = client.open([*client.HEADERS, ("grpc-encoding", "gzip")])
        bomb = message(packed(bytes(1_000_000)), flag=1)
        (first,) = client.send(frame(DATA, 0, sid, bomb))
        assert isinstance(first, MessageReceived)
        (event,) = client.send(frame(DATA, 0, sid, bomb))
        assert isinstance(event, StreamFailed)
        assert event.status.code is StatusCode.RESOURCE_EXHAUSTED
        assert client.works()


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
            assert [(len(m.data), m.compressed) for m in got if m] == [(1000, True), (1000, False), (1_000_000, True)]
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
            assert not message.compressed

    async def test_compresses_nothing_unasked(self, autojump_clock):
        async with joined() as (channel, _), channel.call(PATH) as call:
            await call.send(bytes(1000))
            message = await call.take()
            assert message is not None
            assert not message.compressed

    async def test_takes_what_a_client_compresses(self, autojump_clock):
        seen = []

        async def handler(call: Call) -> None:
            while (message := await call.take()) is not None:
                seen.append((len(message.data), message.compressed))
                call.acknowledge(message)

        async with joined(handler) as (channel, _):
            connection = channel.driver.connection
            sid = connection.start_request(PATH, authority="there", encoding="gzip")
            head, content = pack(bytes(5000), "gzip")
            connection.send(sid, head + content)
            connection.end_request(sid)
            channel.driver.wake_writer()
            await trio.testing.wait_all_tasks_blocked()
        assert seen == [(5000, True)]
