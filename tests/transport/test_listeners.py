from __future__ import annotations

import errno
import os
import socket

import pytest
import trio
import trio.testing

from transport.client.channel import channel_over, open_channel
from transport.grpc.addresses import Descriptor, TcpAddress, UnixAddress, parse_address
from transport.grpc.limits import Limits
from transport.server import serve
from transport.server.accept import accept_for_ever
from transport.server.listeners import AddressInUse, AddressUnusable, open_listeners


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80)),
        ("[::1]:0", TcpAddress("::1", 0)),
        (":50051", TcpAddress("", 50051)),
        ("name.example:1", TcpAddress("name.example", 1)),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock")),
        ("unix:///run/x.sock", UnixAddress("/run/x.sock")),
        ("unix:x", UnixAddress("x")),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "80", "host", "host:", "host:x", "host:65536", "::1:80", "unix:", "unix:a\0b", "h:-1"]
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="address is"):
        parse_address(text)


def exists(path):
    return os.path.exists(path)


async def reach(address):
    """Connect to an address and close the connection."""
    if isinstance(address, UnixAddress):
        stream = await trio.open_unix_socket(address.path)
    else:
        stream = await trio.open_tcp_stream(address.host, address.port)
    await stream.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", ""])
async def test_tcp(host):
    async with open_listeners([TcpAddress(host, 0)]) as listeners:
        ports = {listener.port for listener in listeners}
        assert len(ports) == 1
        assert all(listener.is_local is (host != "") for listener in listeners)
        for listener in listeners:
            await reach(parse_address(listener.name.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")))
        if host == "":
            assert len(listeners) == 2
    with pytest.raises(OSError, match="connect"):
        await reach(TcpAddress("127.0.0.1", ports.pop()))


async def test_an_address_in_use_unless_both_share_it():
    async with open_listeners([TcpAddress("127.0.0.1", 0)]) as (first,):
        address = TcpAddress("127.0.0.1", first.port)
        for reuse_port in (False, True):
            with pytest.raises(AddressInUse, match=f"127.0.0.1:{first.port} is in use by another process"):
                async with open_listeners([address], reuse_port=reuse_port):
                    pass
    async with open_listeners([address], reuse_port=True), open_listeners([address], reuse_port=True):
        await reach(address)
        with pytest.raises(AddressInUse):
            async with open_listeners([address]):
                pass


async def test_what_nobody_can_listen_on():
    with pytest.raises(AddressUnusable, match=r"cannot listen on 192\.0\.2\.1:0"):
        async with open_listeners([TcpAddress("192.0.2.1", 0)]):
            pass
    with pytest.raises(AddressUnusable, match=r"cannot listen on no\.such\.host\.invalid:1"):
        async with open_listeners([TcpAddress("no.such.host.invalid", 1)]):
            pass


async def test_all_addresses_or_none(tmp_path):
    path = tmp_path / "s"
    async with open_listeners([TcpAddress("127.0.0.1", 0)]) as (taken,):
        with pytest.raises(AddressInUse):
            async with open_listeners([UnixAddress(str(path)), TcpAddress("127.0.0.1", taken.port)]):
                pass
    assert not path.exists()


class TestUnix:
    async def test_its_file_comes_and_goes(self, tmp_path):
        address = UnixAddress(str(tmp_path / "s"))
        async with open_listeners([address]) as (listener,):
            assert listener.name == f"unix:{address.path}"
            assert listener.is_local
            await reach(address)
        assert not exists(address.path)

    async def test_one_that_is_in_use(self, tmp_path):
        address = UnixAddress(str(tmp_path / "s"))
        async with open_listeners([address]):
            with pytest.raises(AddressInUse, match="is in use by another process"):
                async with open_listeners([address]):
                    pass
            await reach(address)

    async def test_one_that_is_stale_is_taken_over(self, tmp_path):
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        assert exists(path)
        async with open_listeners([UnixAddress(path)]):
            await reach(UnixAddress(path))

    async def test_a_file_that_is_no_socket_is_left_alone(self, tmp_path):
        path = tmp_path / "s"
        path.write_text("precious")
        with pytest.raises(AddressUnusable, match="not a socket"):
            async with open_listeners([UnixAddress(str(path))]):
                pass
        assert path.read_text() == "precious"

    async def test_a_successors_file_is_left_alone(self, tmp_path):
        address = UnixAddress(str(tmp_path / "s"))
        async with open_listeners([address]) as (first,):
            os.unlink(address.path)
            async with open_listeners([address]):
                await first.aclose()
                await first.aclose()
                await reach(address)

    async def test_calls_over_it(self, tmp_path):
        path = str(tmp_path / "s")

        async def echo(call):
            await call.send(await call.receive() or b"")

        async with trio.open_nursery() as nursery:

            async def start(task_status):
                await serve({"/t.T/M": echo}, listen=[UnixAddress(path)], task_status=task_status)

            await nursery.start(start)
            stream = await trio.open_unix_socket(path)
            async with channel_over(stream, "there") as channel, channel.call("/t.T/M") as call:
                await call.send(b"x")
                assert await call.receive() == b"x"
            nursery.cancel_scope.cancel()


class TestHandedIn:
    async def test_a_listening_socket(self):
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with open_listeners([Descriptor(sock.detach())]) as (listener,):
            assert listener.port == port
            await reach(TcpAddress("127.0.0.1", port))

    async def test_a_unix_sockets_file_is_its_makers(self, tmp_path):
        path = str(tmp_path / "s")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        async with open_listeners([Descriptor(sock.detach())]):
            await reach(UnixAddress(path))
        assert exists(path)

    async def test_what_is_not_listening(self):
        with socket.socket() as idle:
            for fd in (idle.fileno(), 9999):
                with pytest.raises(AddressUnusable, match=f"fd {fd}"):
                    async with open_listeners([Descriptor(fd)]):
                        pass
            os.fstat(idle.fileno())  # the descriptor must stay open


class _Exhausted:
    """A listener whose first `accept` calls fail for lack of descriptors, as on Linux even without a connection."""

    def __init__(self, listener, failures):
        self.listener = listener
        self.failures = failures

    async def accept(self):
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await self.listener.accept()


@pytest.mark.parametrize("exhausted", [True, False])
async def test_running_out_of_descriptors_ends_nothing(exhausted, monkeypatch, caplog):
    """A connection that arrives then is turned away, unless a descriptor has become free."""
    served, away = [], []

    async def serve_one(stream):
        served.append(stream)
        await stream.aclose()

    async def turn_away(stream):
        away.append(stream)
        monkeypatch.undo()

    def no_more(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with trio.fail_after(120):
        async with open_listeners([TcpAddress("127.0.0.1", 0)]) as (listener,), trio.open_nursery() as nursery:
            address = TcpAddress("127.0.0.1", listener.port)
            accepting = _Exhausted(listener.accepting, 1)
            nursery.start_soon(accept_for_ever, accepting, serve_one, turn_away, nursery)
            await trio.testing.wait_all_tasks_blocked()
            if exhausted:
                monkeypatch.setattr("transport.server.accept.os.open", no_more)
            for _ in range(3):
                await reach(address)
            while len(served) + len(away) < 3:
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert (len(away), len(served)) == ((1, 2) if exhausted else (0, 3))
    assert len([record for record in caplog.records if "turned away" in record.message]) == 1


async def test_a_full_server_without_tls_says_so_to_whom_it_cannot_serve():
    """`turn_away` serves connections beyond those whose first call is refused."""
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:

            async def start(task_status):
                await serve({}, limits=Limits(max_connections=1), task_status=task_status)

            server = await nursery.start(start)
            async with open_channel("127.0.0.1", server.port):
                near, far = trio.testing.memory_stream_pair()
                await server.turn_away(far)
                said = b""
                while data := await near.receive_some():
                    said += data
                assert b"too many connections" in said
            nursery.cancel_scope.cancel()
