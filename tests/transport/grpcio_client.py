"""A foreign client, run in a separate process: `python -m tests.transport.grpcio_client PORT SCENARIO`."""

from __future__ import annotations

import os
import sys
import threading

import grpc


def unary(channel):
    call = channel.unary_unary("/t.T/Shout")
    for text in (b"", b"ab", b"x" * 3_000_000):
        assert call(text, timeout=60) == text.upper()


def bidi(channel):
    sent = [bytes([n]) * n * 100 for n in range(200)]
    assert list(channel.stream_stream("/t.T/Echo")(iter(sent), timeout=60)) == sent


def many_at_once(channel):
    calls = [channel.unary_unary("/t.T/Shout").future(b"%d a" % n, timeout=60) for n in range(300)]
    assert [call.result() for call in calls] == [b"%d A" % n for n in range(300)]


def compressed(channel):
    text = b"ab" * 100_000
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert channel.unary_unary("/t.T/Shout")(text, timeout=60, compression=compression) == text.upper()


def deadline(channel):
    grpc.channel_ready_future(channel).result(60)  # so that the whole deadline is left for the call
    error = fails(lambda: list(channel.stream_stream("/t.T/Wait")(iter([b"x"]), timeout=0.5)))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(channel, b"cancelled")


def cancel(channel):
    released = threading.Event()

    def requests():
        yield b"x"
        released.wait()

    call = channel.stream_stream("/t.T/Wait")(requests())
    wait_for(channel, b"waiting")
    call.cancel()
    wait_for(channel, b"cancelled")
    released.set()


def wait_for(channel, state):
    """Wait until the server's `Wait` handler is in that state."""
    assert channel.unary_unary("/t.T/Until")(state, timeout=60) == state


def details(channel):
    error = fails(lambda: channel.unary_unary("/t.T/Fail")(b"x", timeout=60))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "100 % ünïcode, 日本 "
    trailers = dict(error.trailing_metadata())
    assert trailers["grpc-status-details-bin"] == b"\0\1\2"
    assert trailers["retry"] == "5"


def internal(channel):
    error = fails(lambda: channel.unary_unary("/t.T/Crash")(b"x", timeout=60))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()


def unknown(channel):
    for path in ("/t.T/Nothing", "/Nothing/At/All"):
        error = fails(lambda path=path: channel.unary_unary(path)(b"x", timeout=60))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def metadata(channel):
    sent = (("k", "v"), ("raw-bin", b"\0\xff"))
    reply, call = channel.unary_unary("/t.T/Metadata").with_call(b"x", metadata=sent, timeout=60)
    assert reply == b"x"
    assert {("k", "v"), ("raw-bin", b"\0\xff")} <= {tuple(pair) for pair in call.initial_metadata()}
    assert ("last-bin", b"\1") in {tuple(pair) for pair in call.trailing_metadata()}


def oversize(channel):
    error = fails(lambda: channel.unary_unary("/t.T/Shout")(bytes(4_000_001), timeout=60))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    unary(channel)


def fails(function):
    try:
        function()
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error came")


if __name__ == "__main__":
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options) as opened:
        globals()[sys.argv[2]](opened)
    os._exit(0)  # see tests/e2e/operator_client.py
