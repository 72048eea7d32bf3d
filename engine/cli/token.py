"""`headrace token`: make bearer tokens, and the lines that `--auth-tokens` files are made of."""

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
    """Make bearer tokens, and the lines that a server knows them by (--auth-tokens).

    A server's file holds a line NAME:SHA256 for each token; the token itself is with the client alone.
    """


@token.command(
    cls=Command,
    short_help="Make a token.",
    example="headrace token new call-centre > call-centre.token 2>> tokens",
    exits="0; 2 the name cannot be one.",
)
@click.argument("name")
def new(name: str) -> None:
    """Make a token: on standard output the token, for the client; on standard error its line, for the server's file."""
    _check(name)
    made = new_token()
    click.echo(made)
    click.echo(f"{name}:{hash_token(made)}", err=True)


@token.command(
    "hash",
    cls=Command,
    short_help="Make the line of a token that there is.",
    example="headrace token hash call-centre < token.txt >> tokens",
    exits="0; 2 the name cannot be one, or there is no token on standard input.",
)
@click.argument("name")
def hash_(name: str) -> None:
    """Read a token on standard input (never an argument: those can be seen by others) and give its line."""
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
