"""The options that say which server, and how to reach it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from engine.cli.commands import with_options
from engine.cli.failures import BadInput
from transport.client import Client, ClientTls, connect
from transport.client.dial import parse_target
from transport.grpc.metadata import BadHeader, encode_metadata
from transport.grpc.tls import BadTlsFiles

__all__ = ["DEFAULT_ADDRESS", "WHERE_OPTIONS", "Where", "make_where", "where_options"]

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ADDRESS = "127.0.0.1:50051"

_PATH = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--tls", is_flag=True, help="Over TLS, believing the authorities that this system believes."),
    click.option("--tls-ca", metavar="PEM", type=_PATH, help="Over TLS, believing these authorities."),
    click.option("--tls-cert", metavar="PEM", type=_PATH, help="Over TLS, showing this certificate."),
    click.option("--tls-key", metavar="PEM", type=_PATH, help="Its key."),
    click.option("--tls-server-name", metavar="NAME", help="What the server's certificate has to say, if not HOST."),
    click.option("--token-file", metavar="PATH", type=_PATH, help="A file with the token to show, in one line."),
)

WHERE_OPTIONS = frozenset({"tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file"})


def where_options(command: F) -> F:
    """Give a command the options that `make_where` takes, but for the address."""
    return with_options(command, _OPTIONS)


@attrs.frozen
class Where:
    """A server, and what it takes to be let in."""

    address: str
    tls: ClientTls | None = None
    token: str = attrs.field(default="", repr=False)

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """Connect; raises as `transport.client.connect` does."""
        return connect(self.address, tls=self.tls, token=self.token)


def make_where(
    address: str,
    *,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_server_name: str | None = None,
    token_file: Path | None = None,
) -> Where:
    """Check what was asked for, before anything is done; the keywords are the options of `where_options`.

    Raises:
      BadInput: the address is none, or a file cannot be used.
    """
    try:
        parse_target(address)
        secure = tls or any((tls_ca, tls_cert, tls_key, tls_server_name))
        asked = ClientTls(tls_ca, tls_cert, tls_key, tls_server_name or "") if secure else None
        if asked is not None:
            asked.make_context()
    except (ValueError, BadTlsFiles) as error:
        raise BadInput(str(error)) from None
    return Where(address, asked, "" if token_file is None else _read_token(token_file))


def _read_token(path: Path) -> str:
    """The token of a file; what is wrong with it is told without showing it."""
    try:
        token = path.read_text(encoding="utf-8").strip()
        encode_metadata([("authorization", token)])
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, BadHeader):
        raise BadInput(f"{path}: no token: it has to be one line of printable ASCII") from None
    if not token:
        raise BadInput(f"{path}: there is no token in it")
    return token
