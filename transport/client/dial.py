"""The client's connections: from an address to an open stream over TCP, TLS or a unix socket.

Rules kept here:
- Name look-up, connecting and the TLS handshake share one timeout. Any failure among them raises `Unavailable` with a
  readable reason.
- The server's certificate is always verified, and HTTP/2 is negotiated by ALPN (RFC 9113, 3.2).
"""

from __future__ import annotations

import ssl

import trio

from transport.client.errors import Unavailable
from transport.grpc.addresses import TcpAddress, UnixAddress, parse_address
from transport.grpc.status import StatusCode
from transport.grpc.tls import HTTP2_ALPN, ClientTls, reason_of

__all__ = ["Target", "dial", "parse_target"]

Target = TcpAddress | UnixAddress


def parse_target(address: str) -> Target:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `unix:/path`.

    Raises:
      ValueError: the text is none of these, or has no host or port to connect to.
    """
    try:
        target = parse_address(address)
    except ValueError:
        target = None
    if target is None or (isinstance(target, TcpAddress) and not (target.host and target.port)):
        raise ValueError(f"an address must be HOST:PORT, such as 127.0.0.1:50051, or unix:PATH; got {address!r}")
    return target


async def dial(target: Target, tls: ClientTls | None = None, *, timeout_s: float = 10.0) -> trio.abc.Stream:
    """Connect to a server, over TLS if `tls` is given.

    Raises:
      Unavailable: no server answers within `timeout_s` seconds, or its certificate is not trusted.
      BadTlsFiles: the TLS files cannot be used; raised before any connection is tried.
    """
    context = None if tls is None else tls.make_context()
    try:
        with trio.fail_after(timeout_s):
            stream: trio.abc.Stream = await _connect(target)
            if tls is not None and context is not None:
                stream = await _shake_hands(stream, context, tls.server_name or _name(target))
            return stream
    except trio.TooSlowError:
        reason = f"no answer within {timeout_s:g} s"
    except trio.BrokenResourceError as error:
        reason = f"TLS failed: {_reason_of_tls(error.__cause__ or error)}"
    except (OSError, UnicodeError) as error:
        reason = reason_of(error)
    raise Unavailable(StatusCode.UNAVAILABLE, f"cannot connect to {target}: {reason}")


async def _connect(target: Target) -> trio.SocketStream:
    if isinstance(target, UnixAddress):
        return await trio.open_unix_socket(target.path)
    return await trio.open_tcp_stream(target.host, target.port)


def _name(target: Target) -> str:
    return target.host if isinstance(target, TcpAddress) else "localhost"


async def _shake_hands(stream: trio.abc.Stream, context: ssl.SSLContext, server_name: str) -> trio.abc.Stream:
    secure = trio.SSLStream(stream, context, server_hostname=server_name, https_compatible=True)
    try:
        await secure.do_handshake()
        if secure.selected_alpn_protocol() != HTTP2_ALPN:
            raise OSError("the server does not offer HTTP/2 by ALPN")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def _reason_of_tls(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    return reason_of(error)
