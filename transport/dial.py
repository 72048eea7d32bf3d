"""From an address to an open stream: TCP, TLS, unix sockets, on the client's side.

Rules kept here:
- Name look-up, connecting and the TLS handshake share one timeout, and whatever fails there is `Unavailable`,
  with a reason for people.
- A server's certificate is always verified, and HTTP/2 agreed on by ALPN (RFC 9113, 3.2).
"""

from __future__ import annotations

import ssl
from pathlib import Path

import trio
from attrs import field, frozen

from transport.listeners import TcpAddress, UnixAddress, parse_address
from transport.rpc_errors import Unavailable
from transport.rpc_status import StatusCode
from transport.tls import BadTlsFiles

__all__ = ["ClientTls", "Target", "dial", "parse_target"]

_ALPN = "h2"

Target = TcpAddress | UnixAddress


def parse_target(address: str) -> Target:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `unix:/path`.

    Raises:
      ValueError: it is none of these, or nobody can be there.
    """
    try:
        target = parse_address(address)
    except ValueError:
        target = None
    if target is None or (isinstance(target, TcpAddress) and not (target.host and target.port)):
        raise ValueError(f"an address is HOST:PORT, such as 127.0.0.1:50051, or unix:PATH; got {address!r}")
    return target


@frozen
class ClientTls:
    """How to make a connection secure; files are PEM.

    Attributes:
      ca: Whose certificates to believe; None is those that this system believes.
      cert: This client's own certificate chain, for a server that wants one; with `key`.
      server_name: What the server's certificate has to say; empty is the host of the address.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = field(default=None)
    server_name: str = ""

    @key.validator
    def _both_or_none(self, _: object, value: Path | None) -> None:
        if (value is None) != (self.cert is None):
            raise BadTlsFiles("a client's certificate and its key go together")

    def make_context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
          BadTlsFiles.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadTlsFiles(f"{self.ca}: no PEM certificates ({_why(error)})") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([_ALPN])
        if self.cert is not None and self.key is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=lambda: "")  # else it asks at the terminal
            except (OSError, ssl.SSLError) as error:
                reason = f"{self.cert} and {self.key}: not a PEM certificate with its key ({_why(error)})"
                raise BadTlsFiles(reason) from None
        return context


async def dial(target: Target, tls: ClientTls | None = None, *, timeout_s: float = 10.0) -> trio.abc.Stream:
    """Connect, and make the connection secure if asked to.

    Raises:
      Unavailable: nobody there, or nobody that can be believed, within `timeout_s` seconds.
      BadTlsFiles: before anything is tried.
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
        reason = f"no TLS: {_why(error.__cause__ or error)}"
    except (OSError, UnicodeError) as error:
        reason = _why(error)
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
        if secure.selected_alpn_protocol() != _ALPN:
            raise OSError("the server does not offer HTTP/2 by ALPN")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not believed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, OSError) and isinstance(error.__cause__, BaseExceptionGroup):
        return _why(error.__cause__.exceptions[0])
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
