"""Server that a command connects to: its address, TLS settings and token, checked before connecting."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs

from engine.cli.common.failures import BadInput
from transport.client import Client, ClientTls, connect
from transport.client.dial import parse_target
from transport.grpc.metadata import BadHeader, encode_metadata
from transport.grpc.tls import BadTlsFiles

__all__ = ["ServerTarget", "make_target"]


@attrs.frozen
class ServerTarget:
    """Address of a server, and the TLS settings and token to connect with."""

    address: str
    tls: ClientTls | None = None
    token: str = attrs.field(default="", repr=False)

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """Connect to the server; raises the errors of `transport.client.connect`."""
        return connect(self.address, tls=self.tls, token=self.token)


def make_target(
    address: str,
    *,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_server_name: str | None = None,
    token_file: Path | None = None,
) -> ServerTarget:
    """Check the address, the TLS files and the token; the keywords are the options of `server_options`.

    Raises:
      BadInput: the address is invalid, or a file cannot be used.
    """
    try:
        parse_target(address)
        secure = tls or any((tls_ca, tls_cert, tls_key, tls_server_name))
        asked = ClientTls(tls_ca, tls_cert, tls_key, tls_server_name or "") if secure else None
        if asked is not None:
            asked.make_context()
    except (ValueError, BadTlsFiles) as error:
        raise BadInput(str(error)) from None
    return ServerTarget(address, asked, "" if token_file is None else _read_token(token_file))


def _read_token(path: Path) -> str:
    """Read the token from a file. Error messages never contain the token."""
    try:
        token = path.read_text(encoding="utf-8").strip()
        encode_metadata([("authorization", token)])
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, BadHeader):
        raise BadInput(f"{path}: not a token: it must be one line of printable ASCII") from None
    if not token:
        raise BadInput(f"{path}: there is no token in it")
    return token
