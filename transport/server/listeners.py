"""Listening sockets: TCP, unix sockets, and sockets inherited as file descriptors.

Rules kept here:
- Either all addresses are bound or none is. Everything made here is removed again, a unix socket's file too, if that
  file is still the one made here.
- An address in use is an error. Only a socket file on which no process listens is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import define, frozen

from transport.grpc.addresses import Address, Descriptor, TcpAddress, UnixAddress

__all__ = ["AddressInUse", "AddressUnusable", "Listener", "open_listeners", "peer_of"]

_BACKLOG = 1024
_NOT_HERE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class AddressInUse(OSError):
    """Another process listens on the address."""


class AddressUnusable(OSError):
    """No server can listen on the address, for example because the host is not local or the path is not writable."""


@define(eq=False)
class Listener:
    """One bound socket.

    Attributes:
      accepting: Trio's listener.
      name: Address to show to people.
      port: TCP port; 0 for other sockets.
      is_local: True if clients on other machines cannot reach it.
    """

    accepting: trio.SocketListener
    name: str
    port: int = 0
    is_local: bool = True
    _file: _SocketFile | None = None

    async def aclose(self) -> None:
        """Stop listening; may be called again."""
        if self._file is not None:
            self._file.remove()
        self._file = None  # never remove it twice: a successor's file may have the same identity
        await trio.aclose_forcefully(self.accepting)


@frozen
class _SocketFile:
    """A unix socket's file, identified by device and inode too, so that a successor's file is left alone."""

    path: str
    identity: tuple[int, int]

    @classmethod
    def of(cls, path: str) -> _SocketFile:
        found = os.lstat(path)
        return cls(os.path.abspath(path), (found.st_dev, found.st_ino))

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            if _SocketFile.of(self.path) == self:
                os.unlink(self.path)


@asynccontextmanager
async def open_listeners(addresses: Sequence[Address], *, reuse_port: bool = False) -> AsyncIterator[list[Listener]]:
    """Listen on every address until the block is left.

    Args:
      addresses: One or more addresses.
      reuse_port: Share TCP ports with other processes that set this too; the system distributes the connections.

    Raises:
      AddressInUse: another process listens on one of them.
      AddressUnusable: one of them cannot be bound for another reason.
    """
    opened: list[Listener] = []
    try:
        for address in addresses:
            opened += await _open(address, reuse_port)
        yield opened
    finally:
        with trio.CancelScope(shield=True):  # closing never waits
            for listener in opened:
                await listener.aclose()


async def _open(address: Address, reuse_port: bool) -> list[Listener]:
    try:
        match address:
            case TcpAddress():
                return await _open_tcp(address, reuse_port)
            case UnixAddress(path):
                return [_open_unix(path)]
            case Descriptor(fd):
                return [_adopt(fd)]
    except (AddressInUse, AddressUnusable):
        raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(errno.EADDRINUSE, f"{address} is in use by another process") from None
        raise AddressUnusable(error.errno, f"cannot listen on {address}: {error.strerror or error}") from None


# ---- TCP


async def _open_tcp(address: TcpAddress, reuse_port: bool) -> list[Listener]:
    found = await trio.socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[Listener] = []
    missing: OSError | None = None
    port = address.port
    try:
        for family, _, _, _, where in found:
            try:
                opened.append(_bind_tcp(family, (where[0], port, *where[2:]), reuse_port))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            else:
                port = opened[0].port  # the same port for all families, also if port 0 was asked for
        if not opened and missing is not None:
            raise missing
    except OSError:
        for listener in opened:
            listener.accepting.socket.close()
        raise
    return opened


def _bind_tcp(family: int, where: tuple[object, ...], reuse_port: bool) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        return _tcp_listener(sock)
    except BaseException:
        sock.close()
        raise


def _tcp_listener(sock: socket.socket) -> Listener:
    host, port, *_ = sock.getsockname()
    local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return Listener(_listen(sock), str(TcpAddress(host, port)), port, local)


def _listen(sock: socket.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


# ---- unix sockets


def _open_unix(path: str) -> Listener:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    file: _SocketFile | None = None
    try:
        sock.bind(path)
        file = _SocketFile.of(path)
        sock.listen(_BACKLOG)
        return Listener(_listen(sock), f"unix:{path}", file=file)
    except BaseException:
        sock.close()
        if file is not None:
            file.remove()
        raise


def _remove_stale(path: str) -> None:
    """Remove a socket file on which no process listens.

    Raises:
      AddressInUse: a process listens on it.
      AddressUnusable: the file is not a socket.
    """
    try:
        found = _SocketFile.of(path)
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise AddressUnusable(errno.ENOTSOCK, f"cannot listen on unix:{path}: the file exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog means that a process listens
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            found.remove()
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass
    raise AddressInUse(errno.EADDRINUSE, f"unix:{path} is in use by another process")


# ---- inherited sockets


def _adopt(fd: int) -> Listener:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise AddressUnusable(error.errno, f"cannot listen on fd {fd}: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise AddressUnusable(errno.EINVAL, f"cannot listen on fd {fd}: it is not a listening stream socket")
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return _tcp_listener(sock)
    return Listener(_listen(sock), f"fd:{fd}")


def peer_of(transport: trio.SocketStream) -> str:
    """Return the remote address of a connection, for logs."""
    try:
        where = transport.socket.getpeername()
    except OSError:
        return "?"
    if transport.socket.family in (socket.AF_INET, socket.AF_INET6):
        return str(TcpAddress(where[0], where[1]))
    return "unix"
