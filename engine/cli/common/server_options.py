"""Options for the connection to a server: TLS and the token.

Separate from `server`, which checks their values, because that module loads the client, which `headrace version` does
without unless it asks a server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.cli.common.command import with_options

__all__ = ["DEFAULT_ADDRESS", "SERVER_OPTIONS", "server_options"]

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ADDRESS = "127.0.0.1:50051"

_PATH = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--tls", is_flag=True, help="Use TLS and trust the system's CA certificates."),
    click.option("--tls-ca", metavar="PEM", type=_PATH, help="Use TLS and trust these CA certificates."),
    click.option("--tls-cert", metavar="PEM", type=_PATH, help="Use TLS and present this client certificate."),
    click.option("--tls-key", metavar="PEM", type=_PATH, help="Private key of --tls-cert."),
    click.option(
        "--tls-server-name", metavar="NAME", help="Name expected in the server's certificate.  [default: HOST]"
    ),
    click.option("--token-file", metavar="PATH", type=_PATH, help="File with the bearer token to send, in one line."),
)

SERVER_OPTIONS = frozenset({"tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file"})


def server_options(command: F) -> F:
    """Add the options that `make_target` takes, except the address, to a command."""
    return with_options(command, _OPTIONS)
