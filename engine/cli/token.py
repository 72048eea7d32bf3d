"""`headrace token`: make bearer tokens, and their lines for a server's `--auth-tokens` file."""

from __future__ import annotations

import sys

import click

from engine.cli.common.command import Command, Group
from engine.cli.common.failures import BadInput
from transport.server.tokens import MAX_TOKEN_CHARACTERS, check_name, hash_token, new_token

__all__ = ["token"]


@click.group(
    cls=Group,
    example="headrace token new call-centre > call-centre.token 2>> tokens",
)
def token() -> None:
    """Make bearer tokens, and their lines for a server's file (--auth-tokens).

    The file holds a line NAME:SHA256 for each token. Only the client has the token itself.
    """


@token.command(
    cls=Command,
    short_help="Make a token.",
    example="headrace token new call-centre > call-centre.token 2>> tokens",
    exits="0 success; 2 the name is invalid.",
)
@click.argument("name")
def new(name: str) -> None:
    """Make a token.

    Prints the token, for the client, on standard output, and its line, for the server's file, on standard error.
    """
    _check(name)
    made = new_token()
    click.echo(made)
    click.echo(f"{name}:{hash_token(made)}", err=True)


@token.command(
    "hash",
    cls=Command,
    short_help="Make the line of an existing token.",
    example="headrace token hash call-centre < token.txt >> tokens",
    exits="0 success; 2 the name is invalid, or there is no token on standard input.",
)
@click.argument("name")
def hash_(name: str) -> None:
    """Read a token from standard input and print its line.

    The token is not an argument, because other users can see those.
    """
    _check(name)
    value = sys.stdin.readline().strip()
    if not value or len(value) > MAX_TOKEN_CHARACTERS or not value.isascii() or not value.isprintable() or " " in value:
        raise BadInput(f"a token is 1 to {MAX_TOKEN_CHARACTERS} printable ASCII characters without spaces, on one line")
    click.echo(f"{name}:{hash_token(value)}")


def _check(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise BadInput(str(error)) from None
