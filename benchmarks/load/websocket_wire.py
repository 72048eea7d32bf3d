"""WebSocket client of a load (RFC 6455): one session on a connection, binary messages, no extensions.

It is for WebSocket what `benchmarks.load.grpc_wire.Wire` is for gRPC, and takes as little CPU: a message is framed
once, with a masking key of zeros. The RFC asks for a random key, to protect proxies; a server unmasks zeros like any
other key.
"""

from __future__ import annotations

import base64
import os
import socket
import struct

from benchmarks.load.grpc_wire import Call, ConnectionLost, read_available, send_ahead

__all__ = ["WebSocketWire"]

_READ = 256 * 1024
_FINAL, _MASKED = 0x80, 0x80
_BINARY, _CLOSE, _PING, _PONG = 0x2, 0x8, 0x9, 0xA
_NORMAL_CLOSURE = 1000


class WebSocketWire:
    """Connection with one session. Only connecting and `call` wait.

    Raises:
      OSError: there is no server.
    """

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"{host}:{port}"
        self._call = Call(0, 0)
        self._unparsed = b""
        self._out: list[bytes | memoryview] = []

    @staticmethod
    def framed(message: bytes) -> bytes:
        """Return a message as a frame, the form that `send` takes."""
        return _frame(_BINARY, message)

    def close(self) -> None:
        """Close the socket without a close frame."""
        self.socket.close()

    @property
    def wants_to_write(self) -> bool:
        """True if the socket has not taken everything yet."""
        return bool(self._out)

    def call(self, path: str) -> Call:
        """Do the opening handshake.

        Raises:
          ConnectionLost: the server does not speak WebSocket at this path.
        """
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (data := self.socket.recv(_READ)):
                raise ConnectionLost("the server has closed the connection")
            answer += data
        head, _, self._unparsed = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise ConnectionLost(head.splitlines()[0].decode(errors="replace"))
        self.socket.setblocking(False)
        return self._call

    def send(self, call: Call, message: bytes) -> None:
        """Send a message made by `framed`."""
        self._out.append(message)

    def half_close(self, call: Call) -> None:
        """Send a close frame: nothing more follows."""
        self._out.append(_frame(_CLOSE, struct.pack(">H", _NORMAL_CLOSURE)))

    def flush(self) -> None:
        """Write as much to the socket as it takes.

        Raises:
          ConnectionLost: the socket is broken.
        """
        self._out = send_ahead(self.socket, self._out)

    def receive(self) -> list[tuple[Call, bytes | None]]:
        """Return the received messages, and None at the end.

        Raises:
          ConnectionLost: the connection is broken, or was closed without a close frame.
        """
        data = read_available(self.socket)
        if data is None:
            return []
        if not data:
            if self._call.status is not None:
                return []
            raise ConnectionLost("the server has closed the connection")
        came: list[tuple[Call, bytes | None]] = []
        data, at = self._unparsed + data, 0
        while (span := _span(data, at)) is not None:
            start, end = span
            self._take(data[at] & 0x0F, data[start:end], came)
            at = end
        self._unparsed = data[at:]
        return came

    def _take(self, kind: int, payload: bytes, came: list[tuple[Call, bytes | None]]) -> None:
        if kind == _BINARY:
            came.append((self._call, payload))
        elif kind == _PING:
            self._out.append(_frame(_PONG, payload))
        elif kind == _CLOSE and self._call.status is None:
            self._call.status = 0
            came.append((self._call, None))


def _frame(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", _FINAL | kind, _MASKED | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", _FINAL | kind, _MASKED | 126, length)
    else:
        head = struct.pack(">BBQ", _FINAL | kind, _MASKED | 127, length)
    return head + bytes(4) + payload


def _span(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the start and end of the payload of the frame at `at`; None if it is incomplete. Servers do not mask."""
    if len(data) < at + 2:
        return None
    start, length = at + 2, data[at + 1]
    if length >= 126:
        size = 2 if length == 126 else 8
        start += size
        length = int.from_bytes(data[at + 2 : start])
        if len(data) < start:
            return None
    return (start, start + length) if len(data) >= start + length else None
