"""Connecting to a server: TLS with its many failures, unix sockets, tokens, and secrets that must not leak."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from attrs import frozen

from transport.client import connect
from transport.client.channel import ClientCall, channel_to
from transport.client.dial import dial, parse_target
from transport.client.errors import DeadlineExceeded, Unavailable
from transport.grpc.addresses import TcpAddress, UnixAddress
from transport.grpc.limits import Limits
from transport.grpc.metadata import BadHeader
from transport.grpc.tls import BadTlsFiles, ClientTls, HandshakeFailed, Tls, TlsFiles
from transport.server import Server, serve
from transport.server.call import Call, unary

PATH = "/t.T/Who"
TOKEN = "hr_a-very-secret-token"


@frozen
class Files:
    ca: Path
    server: TlsFiles
    client_cert: Path
    client_key: Path
    stranger_ca: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    where = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    server, client = authority.issue_cert("localhost", "headrace.test"), authority.issue_cert("me@headrace.test")
    authority.cert_pem.write_to_path(where / "ca.pem")
    stranger.cert_pem.write_to_path(where / "stranger.pem")
    for name, cert in (("server", server), ("client", client)):
        cert.private_key_pem.write_to_path(where / f"{name}.key")
        for blob in cert.cert_chain_pems:
            blob.write_to_path(where / f"{name}.pem", append=True)
    return Files(
        ca=where / "ca.pem",
        server=TlsFiles(where / "server.pem", where / "server.key"),
        client_cert=where / "client.pem",
        client_key=where / "client.key",
        stranger_ca=where / "stranger.pem",
    )


async def who(request: bytes, call: Call) -> bytes:
    values = [str(value) for name, value in call.metadata if name == "authorization"]
    return "|".join(values).encode()


@asynccontextmanager
async def listening(**how: Any) -> AsyncIterator[Server]:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(serve, {PATH: unary(who)}, **how))
            nursery.cancel_scope.cancel()


async def ask(target: TcpAddress | UnixAddress, **how: Any) -> bytes:
    async with channel_to(target, **how) as channel, channel.call(PATH, timeout_s=60) as call:
        await call.send(b"")
        call.half_close()
        answer = await call.receive()
        assert answer is not None
        assert await call.receive() is None
        return answer


# ---- TLS


async def test_tls(files: Files) -> None:
    async with listening(tls=Tls(files.server)) as server:
        assert await ask(TcpAddress("localhost", server.port), tls=ClientTls(files.ca), token=TOKEN) == (
            f"Bearer {TOKEN}".encode()
        )


async def test_the_servers_name_may_be_another_than_the_address(files: Files) -> None:
    async with listening(tls=Tls(files.server)) as server:
        target = TcpAddress("127.0.0.1", server.port)
        assert await ask(target, tls=ClientTls(files.ca, server_name="headrace.test")) == b""
        with pytest.raises(Unavailable, match="certificate is not trusted: IP address mismatch"):
            await ask(target, tls=ClientTls(files.ca))


async def test_a_stranger_is_not_believed(files: Files) -> None:
    async with listening(tls=Tls(files.server)) as server:
        target = TcpAddress("localhost", server.port)
        for tls in (ClientTls(files.stranger_ca), ClientTls()):
            with pytest.raises(Unavailable, match="certificate is not trusted"):
                await ask(target, tls=tls)


async def test_a_client_certificate(files: Files) -> None:
    mutual = TlsFiles(files.server.cert, files.server.key, client_ca=files.ca)
    async with listening(tls=Tls(mutual)) as server:
        target = TcpAddress("localhost", server.port)
        assert await ask(target, tls=ClientTls(files.ca, files.client_cert, files.client_key)) == b""
        with pytest.raises(Unavailable):  # in TLS 1.3 the client learns of it only after its own handshake
            await ask(target, tls=ClientTls(files.ca))


async def test_a_strangers_client_certificate_is_not_called_the_servers(files: Files) -> None:
    mutual = Tls(TlsFiles(files.server.cert, files.server.key, client_ca=files.stranger_ca))
    context = ClientTls(files.ca, files.client_cert, files.client_key).make_context()
    near, far = trio.testing.memory_stream_pair()

    async def stranger() -> None:
        stream = trio.SSLStream(near, context, server_hostname="localhost")
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()  # the handshake, and then the server's alert

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stranger)
            with pytest.raises(HandshakeFailed, match=r"^certificate verify failed$"):
                await mutual.shake_hands(far)


async def test_tls_to_a_server_without_and_none_to_a_server_with(files: Files) -> None:
    async with listening() as plain, listening(tls=Tls(files.server)) as secure:
        with pytest.raises(Unavailable, match="cannot connect to localhost"):
            await ask(TcpAddress("localhost", plain.port), tls=ClientTls(files.ca))
        with pytest.raises(Unavailable):
            await ask(TcpAddress("localhost", secure.port))


async def test_a_server_without_http2(files: Files) -> None:
    """The server has the right certificate, but does not negotiate HTTP/2."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server.cert, files.server.key)

    async def http1(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.do_handshake()
        await trio.sleep_forever()

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, http1, 0, context, host="localhost"))
            port = listeners[0].transport_listener.socket.getsockname()[1]
            host = listeners[0].transport_listener.socket.getsockname()[0]
            with pytest.raises(Unavailable, match="does not offer HTTP/2"):
                await ask(TcpAddress(host, port), tls=ClientTls(files.ca, server_name="localhost"))
            nursery.cancel_scope.cancel()


async def test_a_handshake_that_never_ends(files: Files) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, silent, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
                await dial(TcpAddress("127.0.0.1", port), ClientTls(files.ca), timeout_s=0.2)
            nursery.cancel_scope.cancel()


def test_files_that_are_none(files: Files, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for tls, fact in (
        (ClientTls(tmp_path / "nothing.pem"), "nothing.pem.*No such file"),
        (ClientTls(empty), "empty.pem"),
        (ClientTls(files.ca, files.client_cert, files.server.key), "not a PEM certificate with its key"),
    ):
        with pytest.raises(BadTlsFiles, match=fact):
            tls.make_context()
    with pytest.raises(BadTlsFiles, match="go together"):
        ClientTls(files.ca, files.client_cert)


# ---- unix sockets


async def test_a_unix_socket(tmp_path: Path, files: Files) -> None:
    plain, secure = UnixAddress(str(tmp_path / "plain")), UnixAddress(str(tmp_path / "secure"))
    async with listening(listen=[plain]), listening(listen=[secure], tls=Tls(files.server)):
        assert await ask(plain) == b""
        assert await ask(secure, tls=ClientTls(files.ca)) == b""  # which is localhost


async def test_a_unix_socket_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing", tmp_path / ("x" * 200)):
        with pytest.raises(Unavailable, match="cannot connect to unix:/"):
            async with connect(f"unix:{path}"):
                pytest.fail("there is nobody")


def test_what_is_no_unix_address() -> None:
    for address in ("unix:", "unix:a\0b"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_target(address)


async def test_a_name_that_nobody_has() -> None:
    with trio.fail_after(120):
        for host in ("nobody.invalid", "\udcff.invalid", "a" * 300):
            with pytest.raises(Unavailable, match="cannot connect"):
                await dial(TcpAddress(host, 1), timeout_s=10)


# ---- tokens


async def test_a_token_is_shown_nowhere(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with (
            listening() as server,
            channel_to(TcpAddress("127.0.0.1", server.port), token=TOKEN) as channel,
            channel.call(PATH) as call,
        ):
            shown = [repr(channel), repr(call), str(channel), str(vars(channel).keys())]
            call.half_close()
            await call.status()
    assert TOKEN not in "".join(shown)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("token", ["line\nbreak", "ünï", "\0"])
async def test_a_token_that_cannot_be_sent_is_not_repeated(token: str) -> None:
    async with listening() as server:
        with pytest.raises(BadHeader, match="authorization") as refused:
            await ask(TcpAddress("127.0.0.1", server.port), token=token)
    assert token not in str(refused.value)


# ---- servers that fall silent


async def test_a_server_that_falls_silent_is_noticed_by_keepalive() -> None:
    """The server sends its SETTINGS and then nothing at all, not even a FIN."""
    settings = b"\0\0\0\4\0\0\0\0\0"

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(settings + b"\0\0\0\4\1\0\0\0\0")
        await trio.sleep_forever()

    limits = Limits(keepalive_interval_s=0.1, keepalive_timeout_s=0.1)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, greet, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            async with channel_to(TcpAddress("127.0.0.1", port), limits=limits) as channel, channel.call(PATH) as call:
                with pytest.raises(Unavailable, match="sign of life"):
                    await call.receive()
            nursery.cancel_scope.cancel()


async def send_for_ever(call: ClientCall) -> None:
    while True:
        await call.send(bytes(1 << 16))


async def test_a_server_that_takes_nothing_ends_the_call_that_sends() -> None:
    async def never_reads(call: Call) -> None:
        await trio.sleep_forever()

    limits = Limits(write_timeout_s=0.2)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve, {PATH: never_reads})
            async with channel_to(TcpAddress("127.0.0.1", server.port), limits=limits) as channel:
                async with channel.call(PATH) as call:
                    with pytest.raises(Unavailable, match="taken nothing"):
                        await send_for_ever(call)
                    with pytest.raises(Unavailable, match="taken nothing"):  # the call stays failed
                        await call.receive()
                with pytest.raises(DeadlineExceeded):
                    async with channel.call(PATH, timeout_s=0.05) as call:  # the connection still works
                        await call.receive()
            nursery.cancel_scope.cancel()
