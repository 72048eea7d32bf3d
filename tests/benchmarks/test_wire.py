"""The load's client against h2, which ends the connection at the first byte that a window does not allow."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.load.grpc_wire import STREAM_WINDOW, Call, ConnectionLost, Wire, framed

PATH = "/some.Service/Method"


class Server:
    """Echoes data as far as the windows allow, and ends a call after its client has half-closed it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.headers: list[dict[str, str]] = []
        self._unsaid: dict[int, bytes] = {}
        self._over: set[int] = set()

    def turn(self) -> None:
        while select.select([self._end], (), (), 0)[0]:
            for event in self.http.receive_data(self._end.recv(1 << 16)):
                match event:
                    case h2.events.RequestReceived():
                        self.headers.append(dict(event.headers))
                        self.http.send_headers(event.stream_id, [(":status", "200")])
                        self._unsaid[event.stream_id] = b""
                    case h2.events.DataReceived():
                        self._unsaid[event.stream_id] += event.data
                        self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded():
                        self._over.add(event.stream_id)
        for stream in list(self._unsaid):
            self._say(stream)
        self._end.sendall(self.http.data_to_send())

    def _say(self, stream: int) -> None:
        while size := min(len(self._unsaid[stream]), self.http.local_flow_control_window(stream), 5_000):
            padded = size < self.http.local_flow_control_window(stream) - 3 and size % 2
            self.http.send_data(stream, self._unsaid[stream][:size], pad_length=2 if padded else None)
            self._unsaid[stream] = self._unsaid[stream][size:]
            self._end.sendall(self.http.data_to_send())
        if stream in self._over and not self._unsaid[stream]:
            self.http.send_headers(stream, [("grpc-status", "3"), ("grpc-message", "so be it")], end_stream=True)
            del self._unsaid[stream]


@pytest.fixture
def ends() -> Iterator[tuple[Wire, Server]]:
    yield from make_ends()


def make_ends() -> Iterator[tuple[Wire, Server]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    with ours, theirs:
        yield Wire(ours, "here"), Server(theirs)


def turn(wire: Wire, server: Server) -> list[tuple[Call, bytes | None]]:
    """Exchange all pending data of both ends; return the received messages."""
    came = []
    for _ in range(3):
        wire.flush()
        server.turn()
        while select.select([wire.socket], (), (), 0)[0]:
            came += wire.receive()
    return came


@given(sizes=st.lists(st.lists(st.integers(0, 150_000), max_size=4), min_size=1, max_size=3))
@example(sizes=[[150_000] * 4, [], [70_000, 0, 20_000]])  # past every window, both ways
@settings(max_examples=10)
def test_every_message_comes_back_whole_and_in_order(sizes: list[list[int]]) -> None:
    for wire, server in make_ends():
        calls = [wire.call(PATH) for _ in sizes]
        sent = [[bytes([i % 256]) * size for i, size in enumerate(each)] for each in sizes]
        for call, messages in zip(calls, sent, strict=True):
            for message in messages:
                wire.send(call, framed(message))
            wire.half_close(call)
        came: list[tuple[Call, bytes | None]] = []
        while any(call.status is None for call in calls):
            came += turn(wire, server)
        for call, messages in zip(calls, sent, strict=True):
            assert [message for its, message in came if its is call] == [*messages, None]
            assert (call.status, call.details) == (3, "so be it")
        assert {each[":path"] for each in server.headers} == {PATH}


def test_a_call_that_is_not_read_gets_a_window_and_no_more(ends: tuple[Wire, Server]) -> None:
    wire, server = ends
    stalled, other = wire.call(PATH), wire.call(PATH)
    stalled.reads = False
    message = framed(bytes(10_000))
    for _ in range(100):
        wire.send(stalled, message)
        turn(wire, server)
    assert stalled.uncredited == STREAM_WINDOW
    wire.send(other, message)
    assert [call for call, _ in turn(wire, server)] == [other]
    assert wire.credit(stalled, 25_000) == 25_000
    turn(wire, server)
    assert stalled.uncredited == STREAM_WINDOW
    assert wire.credit(stalled, 10 * STREAM_WINDOW) == STREAM_WINDOW


def test_a_server_that_leaves_is_told(ends: tuple[Wire, Server]) -> None:
    wire, server = ends
    turn(wire, server)
    server.http.close_connection(error_code=2)
    with pytest.raises(ConnectionLost, match="HTTP/2 error 2"):
        turn(wire, server)
