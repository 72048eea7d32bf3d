"""Two sans-io connections joined by a link that may cut their bytes anywhere."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import hpack

from transport.grpc.connection import Connection
from transport.grpc.events import Event, RequestStarted
from transport.grpc.limits import Limits
from transport.grpc.status import Metadata

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Cut = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame, well formed or not."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def message(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


class Link:
    """Both ends, with the events of each since the last `forget`."""

    def __init__(self, *, client: Limits | None = None, server: Limits | None = None, cut: Cut = whole):
        self.client = Connection(client_side=True, limits=client)
        self.server = Connection(client_side=False, limits=server)
        self.cut = cut
        self.at_client: list[Event] = []
        self.at_server: list[Event] = []
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.pump()
        self.forget()

    def pump(self) -> None:
        """Carry bytes both ways until neither side has any left."""
        while True:
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if not up and not down:
                return
            for piece in self.cut(up):
                self.at_server += self.server.receive_data(piece)
            for piece in self.cut(down):
                self.at_client += self.client.receive_data(piece)

    def forget(self) -> None:
        self.at_client, self.at_server = [], []

    def call(self, path: str = "/t.T/M", metadata: Metadata = (), timeout_s: float | None = None) -> int:
        stream_id = self.client.start_request(path, authority="there", metadata=metadata, timeout_s=timeout_s)
        self.pump()
        return stream_id


Frame = tuple[int, int, int, object]
"""Kind, flags, stream, and headers or payload."""


def frames_of(data: bytes, decoder: hpack.Decoder) -> list[Frame]:
    """Cut the bytes that a peer has sent into frames."""
    found: list[Frame] = []
    while data:
        length = int.from_bytes(data[:3], "big")
        kind, flags, stream_id = struct.unpack(">BBI", data[3:9])
        payload: object = data[9 : 9 + length]
        if kind == 1:
            payload = dict(decoder.decode(data[9 : 9 + length]))
        found.append((kind, flags, stream_id, payload))
        data = data[9 + length :]
    return found


class RawClient:
    """A client that writes its own frames, so that it can send invalid ones."""

    HEADERS = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/t.T/M"),
        (":authority", "there"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )

    def __init__(self, limits: Limits | None = None) -> None:
        self.server = Connection(client_side=False, limits=limits)
        self.server.initiate_connection()
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.next_id = 1
        self.send(PREFACE + frame(4, 0, 0))
        self.replies()

    def send(self, data: bytes, at: float = 0.0) -> list[Event]:
        return self.server.receive_data(data, at)

    def headers(self, stream_id: int, headers: object = HEADERS, *, end: bool = False) -> bytes:
        return frame(1, 0x4 | end, stream_id, self.encoder.encode(headers))

    def open(self, headers: object = HEADERS, *, end: bool = False) -> tuple[int, list[Event]]:
        stream_id = self.next_id
        self.next_id += 2
        return stream_id, self.send(self.headers(stream_id, headers, end=end))

    def replies(self) -> list[Frame]:
        """Return the server's frames since the last call."""
        return frames_of(self.server.data_to_send(), self.decoder)

    def answer(self, stream_id: int) -> dict[str, str]:
        """Return the headers that ended this stream."""
        ends = [r[3] for r in self.replies() if r[0] == 1 and r[1] & 1 and r[2] == stream_id]
        assert len(ends) == 1
        assert isinstance(ends[0], dict)
        return ends[0]

    def works(self) -> bool:
        """Return True if a valid call still starts."""
        stream_id, events = self.open()
        self.server.reset(stream_id)
        return any(isinstance(event, RequestStarted) for event in events)
