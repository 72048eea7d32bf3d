"""A foreign client: grpcio in a separate process, driven by commands over a pipe.

It carries bytes and imports none of our messages, so none of our code is in its process. `clients.Foreign` is the
other end of the pipe. Run as `python -m tests.e2e.grpcio_client FD`.
"""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import grpc

STREAM = "/remotemedia.v1.StreamingPipelineService/StreamPipeline"

Ended = tuple[str, str, bytes]
"""The end of a call: the status code's name, the message, and `grpc-status-details-bin`."""

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),  # keep the receive window at its initial 64 kB
    ("grpc.enable_retries", 0),
]


def ended(call: Any) -> Ended:
    details = dict(call.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return call.code().name, call.details() or "", details


class Stream:
    """One streaming call; requests wait here until grpcio asks for them."""

    def __init__(self, channel: grpc.Channel, timeout: float | None, path: str) -> None:
        self.pulled = 0
        self.last_pull = time.monotonic()
        self._requests: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()
        method = channel.stream_stream(path, request_serializer=None, response_deserializer=None)
        self.call = method(self._pull(), timeout=timeout)

    def _pull(self) -> Iterator[bytes]:
        while (item := self._requests.get()) is not None:
            due, request = item
            time.sleep(max(0.0, due - time.monotonic()))
            self.pulled += 1
            self.last_pull = time.monotonic()
            yield request

    def put(self, requests: Sequence[bytes], interval: float) -> None:
        """Queue requests: to send at once, or one every `interval` seconds from now on."""
        began = time.monotonic()
        for i, request in enumerate(requests):
            self._requests.put((began + (i + 1) * interval if interval else 0.0, request))

    def half_close(self) -> None:
        self._requests.put(None)

    def read(self, count: int | None) -> tuple[list[tuple[float, bytes]], Ended | None]:
        """Read this many responses, or all; return them with their times, and the end if it was reached."""
        responses: list[tuple[float, bytes]] = []
        try:
            while count is None or len(responses) < count:
                response = next(self.call)
                responses.append((time.monotonic(), response))
        except StopIteration:
            return responses, ended(self.call)
        except grpc.RpcError:
            return responses, ended(self.call)
        return responses, None

    def wait_quiet(self, seconds: float) -> int:
        """Wait until grpcio has pulled no request for this long; return the number of pulled requests."""
        while (left := self.last_pull + seconds - time.monotonic()) > 0:
            time.sleep(left)
        return self.pulled


class Client:
    """The parent's commands: every public method is one."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.Channel] = {}
        self._streams: list[Stream] = []

    def _channel(self, address: str) -> grpc.Channel:
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, options=_OPTIONS)
        return self._channels[address]

    def disconnect(self, address: str) -> None:
        self._channels.pop(address).close()

    def unary(self, address: str, path: str, request: bytes, timeout: float) -> tuple[bytes | None, Ended]:
        method = self._channel(address).unary_unary(path, request_serializer=None, response_deserializer=None)
        try:
            response, call = method.with_call(request, timeout=timeout)
        except grpc.RpcError as error:
            return None, ended(error)
        return response, ended(call)

    def open(self, address: str, timeout: float | None, path: str = STREAM) -> int:
        self._streams.append(Stream(self._channel(address), timeout, path))
        return len(self._streams) - 1

    def send(self, number: int, requests: Sequence[bytes], interval: float) -> None:
        self._streams[number].put(requests, interval)

    def half_close(self, number: int) -> None:
        self._streams[number].half_close()

    def read(self, number: int, count: int | None) -> tuple[list[tuple[float, bytes]], Ended | None]:
        return self._streams[number].read(count)

    def wait_quiet(self, number: int, seconds: float) -> int:
        return self._streams[number].wait_quiet(seconds)

    def reset(self, number: int) -> None:
        """Cancel the call; grpcio sends RST_STREAM if the call has not ended."""
        self._streams[number].call.cancel()
        self._streams[number].half_close()


def main() -> None:
    pipe = Connection(int(sys.argv[1]))
    client = Client()
    try:
        while True:
            command, arguments = pipe.recv()
            try:
                pipe.send((getattr(client, command)(*arguments), None))
            except Exception as error:
                pipe.send((None, f"{type(error).__name__}: {error}"))
    except EOFError:  # the parent has closed the pipe
        os._exit(0)


if __name__ == "__main__":
    main()
