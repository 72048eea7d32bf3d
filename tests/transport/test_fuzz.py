"""Recorded conversations with mutations, random frames, and noise: both roles keep their promises for any input.

Only documented exceptions are raised, memory is bounded, windows are exact. FUZZ_EXAMPLES in the environment sets the
number of examples of each kind; the default takes about ten seconds.
"""

from __future__ import annotations

import contextlib
import os

import hpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transport.sansio_link import PREFACE, RawClient, frame, message
from transport.grpc.connection import Connection, StreamGone
from transport.grpc.events import ConnectionFailed, Event, HalfClosed, MessageReceived, RequestStarted, ResponseStarted
from transport.grpc.framing import prefix
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.status import Status

LIMITS = Limits(
    stream_window_bytes=65_535,
    connection_window_bytes=131_070,
    max_message_bytes=200_000,
    max_header_bytes=4096,
    max_unread_messages=100,
    max_streams=10,
    large_messages_bytes=400_000,
    control_frames_burst=500,
    broken_streams_burst=50,
)
MOST_UNSENT = 400_000
RUNS = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 500)), suppress_health_check=list(HealthCheck))


class Role:
    """One side of a connection, with a user that calls its operations."""

    def __init__(self, *, client_side: bool) -> None:
        self.budget = ByteBudget(LIMITS.large_messages_bytes)
        self.connection = Connection(client_side=client_side, limits=LIMITS, budget=self.budget)
        self.client_side = client_side
        self.held: list[MessageReceived] = []
        self.fed = 0
        self.failed = False
        self.connection.initiate_connection()
        if client_side:
            for number in range(3):
                sid = self.connection.start_request("/t.T/M", authority="there", metadata=(("n", str(number)),))
                self.connection.send(sid, prefix(3) + b"abc")
        self.connection.data_to_send()

    def feed(self, data: bytes, at: float) -> bytes:
        """Handle bytes as a user would; return the bytes to send."""
        self.fed += len(data)
        found = self.connection.receive_data(data, at, max_frames=16)
        self.act(found)
        while self.connection.has_more:
            self.act(self.connection.receive_data(b"", at, max_frames=16))
        self.act(self.connection.late_events())
        self.act(self.connection.overdue(at))
        self.check()
        return self.connection.data_to_send()

    def act(self, found: list[Event]) -> None:
        for event in found:
            assert not self.failed, "an event after the end"
            match event:
                case MessageReceived():
                    self.held.append(event)
                    if len(self.held) > 3:
                        message = self.held.pop(0)
                        self.connection.take(message)
                        self.connection.acknowledge(message)
                case RequestStarted(stream_id) if stream_id % 8 != 1:
                    self.quietly(self.connection.start_response, stream_id)
                    self.quietly(self.connection.send, stream_id, prefix(4) + b"pong")
                case HalfClosed(stream_id):
                    self.quietly(self.connection.end_response, stream_id, Status())
                case ResponseStarted(stream_id):
                    self.quietly(self.connection.send, stream_id, prefix(4) + b"more")
                case ConnectionFailed():
                    self.failed = True

    def quietly(self, operation, *arguments) -> None:
        with contextlib.suppress(StreamGone):
            operation(*arguments)

    def check(self) -> None:
        connection = self.connection
        assert connection.unsent_bytes <= MOST_UNSENT
        assert connection.buffered_bytes <= min(self.fed, 2 * LIMITS.max_header_bytes + 2 * 16_393)
        assert connection.open_streams <= LIMITS.max_streams
        h2 = connection.h2_connection
        assert len(h2.streams) <= LIMITS.max_streams + 1
        assert len(h2.decoder.header_table.dynamic_entries) <= 4096 // 32
        assert h2.encoder.header_table_size <= 4096
        assert len(h2.encoder.table_size_changes) <= 2
        assert len(h2.remote_settings) <= 8
        self.check_windows()

    def check_windows(self) -> None:
        connection = self.connection
        h2 = connection.h2_connection
        drawn = 0
        for sid, stream in connection._streams.items():
            inbound = stream.inbound
            drawn += inbound._drawn
            if sid not in h2.streams or not h2.is_open(sid):
                continue
            held = sum(event.flow_length for event in self.held if event.stream_id == sid)
            incomplete = inbound._reader.partial_bytes - inbound._credited
            window = h2.streams[sid].inbound_flow_control_window
            assert window >= 0
            assert window + held + incomplete + inbound._unsent_credit == LIMITS.stream_window_bytes
            assert inbound.unread_messages <= LIMITS.max_unread_messages
        assert drawn == self.budget.used_bytes <= self.budget.limit_bytes
        manager = h2._inbound_flow_control_window_manager
        if not self.failed:
            total = manager.current_window_size + manager._bytes_processed
            assert total == LIMITS.connection_window_bytes


def record() -> tuple[list[bytes], list[bytes]]:
    """Return the frames that our client and our server send each other during some calls."""
    client, server = Connection(client_side=True, limits=LIMITS), Connection(client_side=False, limits=LIMITS)
    client.initiate_connection()
    server.initiate_connection()
    up, down = b"", b""
    for number in range(4):
        sid = client.start_request(
            "/t.T/M", authority="there", metadata=(("k-bin", b"\0\1"),), timeout_s=5, encoding="gzip"
        )
        size = 40_000 if number == 2 else 300  # above and below half a window
        client.send(sid, prefix(size) + bytes(size) + prefix(0) + prefix(2) + b"xy")
        if number % 2:
            client.end_request(sid)
        for _ in range(3):
            there, back = client.data_to_send(), server.data_to_send()
            up, down = up + there, down + back
            server.receive_data(there)
            client.receive_data(back)
        server.start_response(sid, (("a", "b"),))
        server.send(sid, prefix(5) + b"there")
        server.end_response(sid, Status(message="né", details=b"\1\2"))
        client.ping()
    up, down = up + client.data_to_send(), down + server.data_to_send()
    return cut(up.removeprefix(PREFACE)), cut(down)


def cut(data: bytes) -> list[bytes]:
    frames = []
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


UP, DOWN = record()
_block = hpack.Encoder().encode(RawClient.HEADERS)

spoilt_byte = st.tuples(st.just("byte"), st.integers(0, 10_000), st.integers(0, 255))
moved_frame = st.tuples(st.sampled_from(["drop", "double", "swap"]), st.integers(0, 60), st.integers(0, 60))
head_change = st.tuples(st.just("head"), st.integers(0, 60), st.binary(min_size=6, max_size=6))
mutations = st.lists(st.one_of(spoilt_byte, moved_frame, head_change), max_size=6)
sizes = st.lists(st.integers(50, 40_000), min_size=1, max_size=8)

made_frames = st.lists(
    st.one_of(
        st.builds(
            frame,
            st.integers(0, 12),
            st.integers(0, 255),
            st.sampled_from([0, 1, 2, 3, 5, 7, 9, 2**31 - 1]),
            st.binary(max_size=40),
        ),
        st.builds(lambda sid, end: frame(1, 4 | end, sid, _block), st.sampled_from([1, 3, 5, 7, 9, 11]), st.booleans()),
        st.builds(
            lambda sid, size, flag, end: frame(0, end, sid, message(bytes(size), flag)),
            st.sampled_from([1, 3, 5, 7]),
            st.integers(0, 16_000),
            st.sampled_from([0, 0, 0, 1, 2]),
            st.booleans(),
        ),
        st.builds(
            lambda sid, announced, size: frame(0, 0, sid, prefix(announced) + bytes(size)),
            st.sampled_from([1, 3, 5, 7]),
            st.integers(0, 250_000),
            st.integers(0, 16_000),
        ),
        st.builds(lambda sid, size: frame(0, 0, sid, bytes(size)), st.sampled_from([1, 3, 5]), st.integers(0, 16_384)),
        st.builds(
            lambda sid, by: frame(8, 0, sid, by.to_bytes(4, "big")),
            st.sampled_from([0, 1, 3, 5]),
            st.sampled_from([0, 1, 1000, 2**31 - 1, 2**32 - 1]),
        ),
        st.builds(
            lambda code, value: frame(4, 0, 0, code.to_bytes(2, "big") + value.to_bytes(4, "big")),
            st.integers(0, 9),
            st.sampled_from([0, 1, 4096, 16_384, 65_535, 2**24, 2**31 - 1, 2**32 - 1]),
        ),
    ),
    max_size=60,
)


def mutated(frames: list[bytes], changes) -> bytes:
    frames = list(frames)
    for kind, where, what in changes:
        at = where % len(frames)
        if kind == "drop" and len(frames) > 1:
            del frames[at]
        elif kind == "double":
            frames.insert(what % len(frames), frames[at])
        elif kind == "swap":
            other = what % len(frames)
            frames[at], frames[other] = frames[other], frames[at]
        elif kind == "head":  # random type, flags and stream; the length stays correct
            frames[at] = frames[at][:3] + what + frames[at][9:]
    data = bytearray(b"".join(frames))
    for kind, where, what in changes:
        if kind == "byte":
            data[where % len(data)] = what
    return bytes(data)


def pour(role: Role, data: bytes, steps: list[int]) -> None:
    at, turn = 0, 0
    while at < len(data):
        step = steps[turn % len(steps)]
        role.feed(data[at : at + step], turn / 100)
        at, turn = at + step, turn + 1
    role.connection.close()
    assert role.budget.used_bytes == 0


def test_what_is_spoilt_is_good_to_begin_with():
    """Without mutations both recordings are valid; otherwise the fuzzer would only see broken connections."""
    server = Role(client_side=False)
    pour(server, PREFACE + b"".join(UP), [1000])
    assert not server.failed
    client = Role(client_side=True)
    pour(client, b"".join(DOWN[:8]), [1000])
    assert not client.failed


@given(changes=mutations, steps=sizes)
@RUNS
def test_a_spoilt_client(changes, steps):
    pour(Role(client_side=False), PREFACE + mutated(UP, changes), steps)


@given(changes=mutations, steps=sizes)
@RUNS
def test_a_spoilt_server(changes, steps):
    pour(Role(client_side=True), mutated(DOWN, changes), steps)


@given(frames=made_frames, steps=sizes)
@RUNS
def test_a_client_of_made_up_frames(frames, steps):
    pour(Role(client_side=False), PREFACE + frame(4, 0, 0) + b"".join(frames), steps)


@given(frames=made_frames, steps=sizes)
@RUNS
def test_a_server_of_made_up_frames(frames, steps):
    pour(Role(client_side=True), frame(4, 0, 0) + b"".join(frames), steps)


@given(
    noise=st.binary(max_size=2000),
    steps=st.lists(st.integers(1, 300), min_size=1),
    polite=st.booleans(),
    client_side=st.booleans(),
)
@RUNS
def test_noise(noise, steps, polite, client_side):
    start = frame(4, 0, 0) if client_side else PREFACE + frame(4, 0, 0)
    pour(Role(client_side=client_side), start * polite + noise, steps)
