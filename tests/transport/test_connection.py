from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.sansio_link import Link, RawClient, frame, message
from transport.grpc.connection import Connection, ResetCode, StreamGone
from transport.grpc.events import (
    ConnectionFailed,
    GoAway,
    HalfClosed,
    MessageReceived,
    PingAcknowledged,
    RequestStarted,
    ResponseEnded,
    ResponseStarted,
    StreamFailed,
    StreamReset,
    WindowOpened,
)
from transport.grpc.framing import FramingError, prefix
from transport.grpc.limits import Limits
from transport.grpc.metadata import BadHeader
from transport.grpc.status import Status, StatusCode

SMALL = Limits(stream_window_bytes=65_535, connection_window_bytes=131_070, max_message_bytes=1 << 20)
DATA, HEADERS, RST, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 7, 8
END_STREAM = 1


def send_all(link: Link, stream_id: int, data: bytes) -> None:
    """Send from the client, and pump the link whenever a window is shut."""
    rest = prefix(len(data)) + data
    while rest:
        sent = link.client.send(stream_id, rest)
        link.pump()
        assert sent or link.client.sendable(stream_id), "the window never opened"
        rest = rest[sent:]


def stream_window(connection: Connection, stream_id: int) -> int:
    return connection.h2_connection.streams[stream_id].inbound_flow_control_window


def messages(events: list) -> list[MessageReceived]:
    return [event for event in events if isinstance(event, MessageReceived)]


def consume(connection: Connection, event: MessageReceived, *, in_one: bool = False) -> None:
    connection.take(event, done=in_one)
    if not in_one:
        connection.acknowledge(event)


class TestOneCall:
    def test_there_and_back(self):
        link = Link()
        sid = link.call("/a.B/C", metadata=(("k", "v"), ("k", "w"), ("raw-bin", b"\0\xff")), timeout_s=1.5)
        send_all(link, sid, b"ping")
        link.client.end_request(sid)
        link.pump()
        assert link.at_server == [
            RequestStarted(sid, "/a.B/C", "there", (*RequestHeads, ("raw-bin", b"\0\xff")), 1.5, BOTH),
            MessageReceived(sid, b"ping", 9),
            HalfClosed(sid),
        ]
        link.server.start_response(sid, (("first", "1"),))
        link.server.send(sid, prefix(4) + b"pong")
        link.server.end_response(sid, Status(StatusCode.OK, metadata=(("last-bin", b"z"),)))
        link.pump()
        started, received, ended = (e for e in link.at_client if not isinstance(e, WindowOpened))
        assert isinstance(started, ResponseStarted)
        assert ("first", "1") in started.metadata
        assert received == MessageReceived(sid, b"pong", 9)
        assert ended == ResponseEnded(sid, Status(StatusCode.OK, metadata=(("last-bin", b"z"),)))
        assert link.client.open_streams == link.server.open_streams == 0

    def test_an_error_before_anything_else(self):
        link = Link()
        sid = link.call()
        status = Status(StatusCode.NOT_FOUND, " 100 % ünïcode\n日本 ", b"\1\2details", (("a", "b"),))
        link.server.end_response(sid, status)
        link.pump()
        assert ResponseEnded(sid, status) in link.at_client
        assert link.client.open_streams == link.server.open_streams == 0

    def test_a_code_nobody_knows_is_unknown(self):
        assert StatusCode(4711) is StatusCode.UNKNOWN

    def test_the_server_may_end_before_the_client(self):
        link = Link()
        sid = link.call()
        link.server.end_response(sid, Status())
        link.pump()
        assert ResponseEnded(sid, Status()) in link.at_client
        with pytest.raises(StreamGone):
            link.client.send(sid, b"late")

    @pytest.mark.parametrize("name", ["grpc-status", "te", "a b", "a:b", ":path", "Upper", ""])
    def test_metadata_names_are_guarded(self, name):
        with pytest.raises(BadHeader):
            Link().call(metadata=((name, "v"),))

    @pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\0", "é", b"bytes"])
    def test_metadata_values_are_guarded(self, value):
        link = Link()
        sid = link.call()
        for send in (
            lambda: link.call(metadata=(("k", value),)),
            lambda: link.server.start_response(sid, (("k", value),)),
            lambda: link.server.end_response(sid, Status(metadata=(("k", value),))),
        ):
            with pytest.raises(BadHeader):
                send()
        link.server.end_response(sid, Status())  # the failed attempts left the call usable

    def test_ping_is_answered(self):
        link = Link()
        link.client.ping(b"12345678")
        link.pump()
        assert link.at_client == [PingAcknowledged(b"12345678")]


BOTH = frozenset({"gzip", "deflate"})
RequestHeads = (("user-agent", "headrace"), ("k", "v"), ("k", "w"))


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8),
    steps=st.lists(st.integers(1, 700), min_size=1, max_size=20),
)
@settings(max_examples=60)
def test_bytes_may_be_cut_anywhere(sizes, steps):
    def cut(data: bytes) -> Iterator[bytes]:
        at, turn = 0, 0
        while at < len(data):
            step = steps[turn % len(steps)]
            yield data[at : at + step]
            at, turn = at + step, turn + 1

    sent = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    link = Link(server=SMALL, client=SMALL, cut=cut)
    sid = link.call()
    link.server.start_response(sid)
    for data in sent:
        send_all(link, sid, data)
        for event in messages(link.at_server)[-1:]:
            consume(link.server, event)
            link.server.send(sid, prefix(len(event.data)) + event.data)
    link.client.end_request(sid)
    link.pump()
    link.server.end_response(sid, Status())
    link.pump()
    assert [event.data for event in messages(link.at_server)] == sent
    assert [event.data for event in messages(link.at_client)] == sent
    assert link.at_client[-1] == ResponseEnded(sid, Status())


class TestWindows:
    def test_a_stalled_stream_holds_no_more_than_its_window_and_nobody_else(self):
        link = Link(server=SMALL)
        stalled, lively = link.call(), link.call()
        one = message(bytes(1000))
        while link.client.sendable(stalled) >= len(one):
            link.client.send(stalled, one)
            link.pump()
        assert sum(len(event.data) for event in messages(link.at_server)) <= 65_535
        link.forget()
        for _ in range(500):  # far more than both windows
            send_all(link, lively, bytes(1000))
            consume(link.server, messages(link.at_server)[-1])
        assert len(messages(link.at_server)) == 500

    @given(
        sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=30),
        lag=st.integers(0, 3),
        pad=st.booleans(),
        in_one=st.booleans(),
    )
    @settings(max_examples=60)
    def test_the_window_stays_exact(self, sizes, lag, pad, in_one):
        """Sendable + held + unsent credit = the window, in whatever order messages are taken."""
        client = RawClient(SMALL)
        server = client.server
        sid, _ = client.open()
        held: list[MessageReceived] = []
        for size in sizes:
            for event in messages(self.send_in_frames(client, sid, message(bytes(size)), pad)):
                held.append(event)
            while len(held) > lag:
                consume(server, held.pop(0), in_one=in_one)
            self.check(server, sid, held)
        for event in held:
            consume(server, event)
        self.check(server, sid, [])
        assert stream_window(server, sid) > SMALL.stream_window_bytes // 2
        assert server.h2_connection.inbound_flow_control_window > SMALL.connection_window_bytes // 2

    @given(sizes=st.lists(st.integers(0, 40_000), max_size=3), beyond=st.integers(-1, 1))
    @settings(max_examples=40)
    def test_a_message_is_sent_whole_as_in_parts_or_not_at_all(self, sizes, beyond):
        whole, parts = Link(client=SMALL, server=SMALL), Link(client=SMALL, server=SMALL)
        sid = whole.call()
        assert parts.call() == sid
        for size in (*sizes, None):
            before = whole.client.sendable(sid)
            size = max(0, before - 5 + beyond) if size is None else size
            fits = 5 + size <= before
            assert whole.client.send_whole(sid, prefix(size) + bytes(size)) == fits
            if fits:
                parts.client.send(sid, prefix(size) + bytes(size))
            else:
                assert whole.client.sendable(sid) == before
            assert whole.client.sendable(sid) == parts.client.sendable(sid)
            assert whole.client.data_to_send() == parts.client.data_to_send()
        whole.client.reset(sid)
        with pytest.raises(StreamGone):
            whole.client.send_whole(sid, prefix(0))

    def send_in_frames(self, client, sid, data, pad):
        events = []
        while data:
            room = min(stream_window(client.server, sid), 10_000)
            if room < 20:
                return events  # the window is full; the next message would be cut, so stop
            piece, data = data[: room - 10], data[room - 10 :]
            payload = (b"\x04" + piece + bytes(4)) if pad else piece
            events += client.send(frame(DATA, 0x8 * pad, sid, payload))
        return events

    def check(self, server, sid, held):
        inbound = server._streams[sid].inbound
        incomplete = inbound._reader.partial_bytes - inbound._credited
        total = stream_window(server, sid) + sum(e.flow_length for e in held) + inbound._unsent_credit + incomplete
        assert total == SMALL.stream_window_bytes

    def test_a_message_larger_than_the_window_gets_through(self):
        link = Link(server=SMALL)
        sid = link.call()
        send_all(link, sid, bytes(SMALL.max_message_bytes))
        (event,) = messages(link.at_server)
        assert len(event.data) == SMALL.max_message_bytes
        consume(link.server, event)
        assert stream_window(link.server, sid) > SMALL.stream_window_bytes // 2

    def test_large_messages_nobody_takes_do_not_pile_up(self):
        link = Link(server=SMALL)
        sid = link.call()
        send_all(link, sid, bytes(500_000))
        held = 0
        while sent := link.client.send(sid, prefix(500_000) + bytes(499_995)):
            held += sent
            link.pump()
        assert held <= SMALL.stream_window_bytes
        (first,) = messages(link.at_server)
        consume(link.server, first)  # now the incomplete message is credited
        link.pump()
        assert link.client.sendable(sid) > 0

    def test_taking_and_acknowledging_are_two_things(self):
        link = Link(server=SMALL)
        sid = link.call()
        for _ in range(4):
            send_all(link, sid, bytes(10_000))
        for event in messages(link.at_server):
            link.server.take(event)
        assert stream_window(link.server, sid) == 65_535 - 4 * 10_005
        for event in messages(link.at_server):
            link.server.acknowledge(event)
        assert stream_window(link.server, sid) == 65_535

    def test_updates_are_coalesced(self):
        client = RawClient()
        sid, _ = client.open()
        for _ in range(300):  # 192 kB against a window of 256 KiB
            for event in messages(client.send(frame(DATA, 0, sid, message(bytes(635))))):
                consume(client.server, event)
        updates = [reply for reply in client.replies() if reply[0] == WINDOW_UPDATE]
        assert len(updates) == 1

    def test_an_early_end_takes_nothing_from_the_connection(self):
        client = RawClient(SMALL)
        for _ in range(50):  # 3 MB that nobody reads, through a connection window of 131 kB
            sid, _ = client.open()
            for _ in range(6):
                client.send(frame(DATA, 0, sid, message(bytes(9_995))))
            client.server.end_response(sid, Status())
            client.send(frame(DATA, 0, sid, bytes(5_000)))  # sent before the answer arrived
            client.replies()
        assert client.server.h2_connection.inbound_flow_control_window > 0
        assert client.server.open_streams == 0
        assert client.works()

    def test_padding_is_given_back(self):
        client = RawClient(SMALL)
        sid, _ = client.open()
        for _ in range(1000):
            for event in messages(client.send(frame(DATA, 0x8, sid, b"\xc8" + message(b"x") + bytes(200)))):
                consume(client.server, event)
        assert client.works()

    def test_sending_obeys_the_peer(self):
        link = Link(client=SMALL)
        sid = link.call()
        link.server.start_response(sid)
        assert link.server.send(sid, prefix(500_000) + bytes(500_000)) == 65_535
        assert link.server.send(sid, b"more") == 0
        link.pump()
        assert WindowOpened(sid) in link.at_server
        assert link.server.sendable(sid) > 0


class TestConfinedToTheStream:
    """A fault of one call is answered on its stream, and the next call works."""

    @pytest.fixture
    def client(self):
        return RawClient(Limits(max_message_bytes=1000))

    @pytest.mark.parametrize(
        ("change", "http_status", "code"),
        [
            ({":method": "GET"}, "405", 13),
            ({"content-type": "text/html"}, "415", 13),
            ({"content-type": "application/grpc-web"}, "415", 13),
            ({"content-type": None}, "415", 13),
            ({"te": None}, "200", 13),
            ({"te": "gzip"}, "200", 13),
            ({":path": "nowhere"}, "200", 12),
            ({"grpc-timeout": "5"}, "200", 13),
            ({"grpc-timeout": "1.5S"}, "200", 13),
            ({"grpc-timeout": "123456789S"}, "200", 13),
            ({"grpc-timeout": ""}, "200", 13),
            ({"x-bin": "!!!"}, "200", 13),
            ({"big": "x" * 17_000}, "200", 8),
        ],
    )
    def test_no_grpc(self, client, change, http_status, code):
        headers = {**dict(client.HEADERS), **change}
        sid, events = client.open([pair for pair in headers.items() if pair[1] is not None])
        assert events == []
        answer = client.answer(sid)
        assert (answer[":status"], answer["grpc-status"]) == (http_status, str(code))
        assert answer["grpc-message"]
        assert client.server.open_streams == 0
        assert client.works()

    @pytest.mark.parametrize(
        "extra",
        [
            [("Upper", "v")],
            [("connection", "close")],
            [(":path", "/again")],
            [(":unknown", "v")],
            [("k", "line\r\nbreak")],
            [("k", "line\nfeed")],
            [("k", "nothing\0")],
            [("line\r\nbreak", "v")],
            [("two words", "v")],
            [("nothing\0", "v")],
            [("\xe9", "v")],
            [("k:", "v")],
            [("", "v")],
            [("content-length", "many")],
        ],
    )
    def test_no_http2_request(self, client, extra):
        sid, events = client.open([*client.HEADERS, *extra])
        assert [e for e in events if isinstance(e, RequestStarted)] == []
        assert (RST, sid) in [(reply[0], reply[2]) for reply in client.replies()]
        assert client.server.open_streams == 0
        assert client.works()

    def test_a_header_that_is_no_utf8(self, client):
        sid, (event,) = client.open([*client.HEADERS, ("k", b"\xff\xfe")])
        assert event == RequestStarted(sid, "/t.T/M", "there", (("k", "\xff\xfe"),), None)

    @pytest.mark.parametrize(
        ("data", "encoding", "code"),
        [
            (message(bytes(1001)), None, StatusCode.RESOURCE_EXHAUSTED),
            (b"\0\xff\xff\xff\xff", None, StatusCode.RESOURCE_EXHAUSTED),
            (message(b"x", flag=1), None, StatusCode.INTERNAL),
            (message(b"x", flag=1), "identity", StatusCode.INTERNAL),
            (message(b"x", flag=1), "snappy", StatusCode.UNIMPLEMENTED),
            (message(b"x", flag=7), None, StatusCode.INTERNAL),
        ],
    )
    def test_a_message_that_cannot_be_taken(self, client, data, encoding, code):
        extra = [("grpc-encoding", encoding)] if encoding else []
        sid, _ = client.open([*client.HEADERS, *extra])
        (event,) = client.send(frame(DATA, 0, sid, data))
        assert isinstance(event, StreamFailed)
        assert event.status.code is code
        assert client.answer(sid)["grpc-status"] == str(int(code))
        assert client.server.open_streams == 0
        assert client.works()

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"x", StatusCode.INTERNAL),
            (zlib.compress(b"x")[:-2], StatusCode.INTERNAL),
            (zlib.compress(bytes(100_000)), StatusCode.RESOURCE_EXHAUSTED),
        ],
    )
    def test_a_message_that_cannot_be_inflated(self, client, data, code):
        sid, _ = client.open([*client.HEADERS, ("grpc-encoding", "deflate")])
        (event,) = client.send(frame(DATA, 0, sid, message(data, flag=1)))
        with pytest.raises(FramingError) as caught:
            list(client.server.inflating(event))
        client.server.refuse(event, caught.value)
        (failed,) = client.server.late_events()
        assert isinstance(failed, StreamFailed)
        assert client.answer(sid)["grpc-status"] == str(int(code))
        assert client.server.open_streams == 0
        client.server.refuse(event, caught.value)
        assert client.server.late_events() == []
        assert client.works()

    @pytest.mark.parametrize(("encoding", "bits"), [("gzip", 31), ("deflate", 15)])
    def test_compressed_messages_are_inflated(self, client, encoding, bits):
        sid, _ = client.open([*client.HEADERS, ("grpc-encoding", encoding)])
        packer = zlib.compressobj(wbits=bits)
        packed = packer.compress(b"a" * 900) + packer.flush()
        events = client.send(frame(DATA, 0, sid, message(packed, flag=1) + message(b"plain")))
        assert (b"".join(client.server.inflating(events[0])), events[1].data) == (b"a" * 900, b"plain")

    def test_no_message_at_all(self, client):
        sid, events = client.open(end=True)
        assert [type(event) for event in events] == [RequestStarted, HalfClosed]
        client.server.end_response(sid, Status(StatusCode.INTERNAL, "no message"))
        assert client.answer(sid)["grpc-status"] == "13"

    @pytest.mark.parametrize("cut", [1, 4, 5, 8])
    def test_a_message_cut_by_the_end_is_data_loss(self, client, cut):
        sid, _ = client.open()
        events = client.send(frame(DATA, END_STREAM, sid, message(b"whole") + message(b"half")[:cut]))
        assert isinstance(events[-1], StreamFailed)
        assert events[-1].status.code is StatusCode.DATA_LOSS
        assert client.answer(sid)["grpc-status"] == "15"
        assert client.works()

    def test_trailers_from_a_client_are_an_end(self, client):
        sid, _ = client.open()
        events = client.send(client.headers(sid, [("k", "v")], end=True))
        assert events == [HalfClosed(sid)]

    def test_headers_amid_a_request_are_not(self, client):
        sid, _ = client.open()
        (event,) = client.send(client.headers(sid, [("k", "v")]))
        assert event == StreamReset(sid, ResetCode.PROTOCOL_ERROR, remote=False)
        assert client.works()

    def test_a_body_longer_than_announced(self, client):
        sid, _ = client.open([*client.HEADERS, ("content-length", "3")])
        (event,) = client.send(frame(DATA, 0, sid, message(b"long")))
        assert event == StreamReset(sid, ResetCode.PROTOCOL_ERROR, remote=False)
        assert client.works()

    def test_data_after_the_end(self, client):
        sid, _ = client.open(end=True)
        (event,) = client.send(frame(DATA, 0, sid, message(b"late")))
        assert isinstance(event, StreamReset)
        assert client.works()

    def test_too_many_empty_messages(self):
        client = RawClient(Limits(max_unread_messages=1024))
        sid, _ = client.open()
        events = client.send(frame(DATA, 0, sid, message(b"") * 1024))
        assert len(messages(events)) == 1024
        (event,) = client.send(frame(DATA, 0, sid, message(b"")))
        assert isinstance(event, StreamFailed)
        assert event.status.code is StatusCode.RESOURCE_EXHAUSTED
        assert client.works()

    def test_too_many_streams_are_refused_one_by_one(self):
        client = RawClient(Limits(max_streams=3))
        ids = [client.open()[0] for _ in range(3)]
        sid, events = client.open()
        assert events == []
        assert client.replies() == [(RST, 0, sid, int(ResetCode.REFUSED_STREAM).to_bytes(4, "big"))]
        client.server.end_response(ids[0], Status())
        assert client.works()


class TestEnds:
    def test_a_reset_frees_everything(self):
        client = RawClient()
        for second in range(3000):
            sid, _ = client.open()
            events = client.send(frame(DATA, 0, sid, message(b"x")) + frame(RST, 0, sid, bytes(4)), at=second)
            assert isinstance(events[-1], StreamReset)
        assert client.server.open_streams == 0
        assert len(client.server.h2_connection.streams) <= 2
        assert len(client.server.h2_connection._closed_streams) <= 1024

    def test_a_refused_call_that_is_reset_in_the_same_breath(self):
        client = RawClient()
        bad = [pair for pair in client.HEADERS if pair[0] != "te"]
        events = client.send(client.headers(1, bad) + frame(RST, 0, 1, bytes(4)))
        assert events == []
        client.next_id = 3
        assert client.works()

    def test_frames_that_come_late_for_a_forgotten_stream(self):
        client = RawClient()
        sid, _ = client.open(end=True)
        client.server.end_response(sid, Status())
        assert client.works()  # h2 forgets closed streams when one opens
        client.send(frame(WINDOW_UPDATE, 0, sid, (100).to_bytes(4, "big")))
        client.send(frame(RST, 0, sid, bytes(4)))
        assert client.works()

    def test_an_early_answer_stops_the_client_without_blame(self):
        client = RawClient()
        sid, _ = client.open()
        client.server.end_response(sid, Status(StatusCode.UNAUTHENTICATED))
        trailers, reset = client.replies()
        assert trailers[:3] == (HEADERS, 0x4 | END_STREAM, sid)
        assert reset == (RST, 0, sid, int(ResetCode.NO_ERROR).to_bytes(4, "big"))
        client.send(frame(DATA, 0, sid, bytes(1000)))  # sent before the answer arrived
        assert client.works()

    def test_a_client_may_not_spoil_calls_for_ever(self):
        client = RawClient()
        bad = [pair for pair in client.HEADERS if pair[0] != "te"]
        for _ in range(2000):
            _, events = client.open(bad)
            if events:
                break
        assert isinstance(events[-1], ConnectionFailed)

    def test_operations_after_the_end_are_harmless(self):
        link = Link()
        sid = link.call()
        send_all(link, sid, b"x")
        (event,) = messages(link.at_server)
        link.client.reset(sid)
        link.pump()
        assert StreamReset(sid, ResetCode.CANCEL, remote=True) in link.at_server
        consume(link.server, event)
        link.server.reset(sid)
        for operation in (link.server.start_response, link.server.sendable):
            with pytest.raises(StreamGone):
                operation(sid)
        with pytest.raises(StreamGone):
            link.server.end_response(sid, Status())

    def test_a_goaway_lets_open_calls_finish_and_refuses_new_ones(self):
        link = Link()
        sid = link.call()
        link.server.finish_shutdown(0, "maintenance")
        link.pump()
        assert GoAway(sid, 0, "maintenance") in link.at_client
        link.server.end_response(sid, Status())
        late = link.call()
        assert ResponseEnded(sid, Status()) in link.at_client
        assert StreamReset(late, ResetCode.REFUSED_STREAM, remote=True) in link.at_client

    @pytest.mark.parametrize(
        "noise",
        [
            frame(DATA, 0, 0, b"x"),
            frame(DATA, 0, 99, b"x"),
            frame(HEADERS, 0x4, 1, b"\xff\xff\xff"),
            frame(WINDOW_UPDATE, 0, 0, bytes(4)),
            b"\xff\xff\xff" + bytes(20_000),  # 16 MiB announced
            b"GET / HTTP/1.1\r\n\r\n" * 10,
        ],
    )
    def test_a_breach_of_http2_ends_the_connection(self, noise):
        client = RawClient()
        events = client.send(noise)
        assert isinstance(events[-1], ConnectionFailed)
        assert client.replies()[-1][0] == GOAWAY
        assert client.server.open_streams == 0
        assert client.send(noise) == []

    def test_a_peer_without_the_preface(self):
        server = Connection(client_side=False)
        server.initiate_connection()
        (event,) = server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert isinstance(event, ConnectionFailed)

    @given(noise=st.binary(min_size=1, max_size=200), after=st.integers(0, 3))
    @settings(max_examples=200)
    def test_noise_never_raises(self, noise, after):
        client = RawClient()
        for _ in range(after):
            client.open()
        client.send(noise)
        client.send(frame(*noise[:1], 0, 1, noise[:40]) if noise else b"")
        client.replies()


def test_data_before_the_head_of_a_response_ends_the_call():
    """If it were accepted, it would count in a flow-control state that the head replaces."""
    link = Link()
    sid = link.call()
    assert link.client.receive_data(frame(DATA, 0, sid, b"early")) == [
        ResponseEnded(sid, Status(StatusCode.INTERNAL, "the server sent data before the response's head"))
    ]
    assert link.client.open_streams == 0
