"""The options that say which server, and how to reach it.

Apart from `server`, which reads them, because that loads the client, and `headrace version` must not.
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
    click.option("--tls", is_flag=True, help="Over TLS, believing the authorities that this system believes."),
    click.option("--tls-ca", metavar="PEM", type=_PATH, help="Over TLS, believing these authorities."),
    click.option("--tls-cert", metavar="PEM", type=_PATH, help="Over TLS, showing this certificate."),
    click.option("--tls-key", metavar="PEM", type=_PATH, help="Its key."),
    click.option("--tls-server-name", metavar="NAME", help="What the server's certificate has to say, if not HOST."),
    click.option("--token-file", metavar="PATH", type=_PATH, help="A file with the token to show, in one line."),
)

SERVER_OPTIONS = frozenset({"tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file"})


def server_options(command: F) -> F:
    """Give a command the options that `make_target` takes, but for the address."""
    return with_options(command, _OPTIONS)
