"""DATA around h2's state machines and through them: the same bytes cause the same events, answers and windows."""

from __future__ import annotations

from hypothesis import given, settings

from tests.transport.test_fuzz import DOWN, PREFACE, RUNS, UP, Role, frame, made_frames, mutated, mutations, sizes
from transport.grpc.events import Event
from transport.grpc.http2 import Http2

FEWER = settings(RUNS, max_examples=RUNS.max_examples // 4)


class ByTheBook(Http2):
    """Sends all frames through h2, in both directions."""

    def _takes_data(self, stream_id: int) -> bool:
        return False

    def send_message_data(self, stream_id: int, data: bytes | memoryview) -> None:
        self.send_data(stream_id, bytes(data))


class Witness(Role):
    """A role that records its events."""

    def __init__(self, *, client_side: bool, by_the_book: bool) -> None:
        self.seen: list[Event] = []
        super().__init__(client_side=client_side)
        if by_the_book:
            self.connection.h2_connection.__class__ = ByTheBook

    def act(self, found: list[Event]) -> None:
        self.seen += found
        super().act(found)

    def windows(self) -> dict[int, tuple[int, int]]:
        """Return the inbound and outbound window of each stream, and of the connection as 0."""
        h2 = self.connection.h2_connection
        both = {
            sid: (each.inbound_flow_control_window, each.outbound_flow_control_window)
            for sid, each in h2.streams.items()
        }
        return {0: (h2.inbound_flow_control_window, h2.outbound_flow_control_window), **both}


def compare(data: bytes, steps: list[int], *, client_side: bool) -> Witness:
    quick, slow = (Witness(client_side=client_side, by_the_book=by_the_book) for by_the_book in (False, True))
    at, turn = 0, 0
    while at < len(data):
        step = steps[turn % len(steps)]
        piece, when = data[at : at + step], turn / 100
        assert quick.feed(piece, when) == slow.feed(piece, when), "what is sent"
        assert quick.seen == slow.seen
        assert quick.windows() == slow.windows()
        at, turn = at + step, turn + 1
    return quick


def test_the_recordings_hold_data_that_takes_either_path():
    assert len(compare(PREFACE + b"".join(UP), [1000], client_side=False).seen) > 12
    assert len(compare(b"".join(DOWN), [1000], client_side=True).seen) > 6


@given(changes=mutations, steps=sizes)
@FEWER
def test_what_a_client_says(changes, steps):
    compare(PREFACE + mutated(UP, changes), steps, client_side=False)


@given(changes=mutations, steps=sizes)
@FEWER
def test_what_a_server_says(changes, steps):
    compare(mutated(DOWN, changes), steps, client_side=True)


@given(frames=made_frames, steps=sizes)
@FEWER
def test_made_up_frames_for_a_server(frames, steps):
    compare(PREFACE + frame(4, 0, 0) + b"".join(frames), steps, client_side=False)


@given(frames=made_frames, steps=sizes)
@FEWER
def test_made_up_frames_for_a_client(frames, steps):
    compare(frame(4, 0, 0) + b"".join(frames), steps, client_side=True)
