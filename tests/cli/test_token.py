"""`headrace token`: a server accepts the tokens and lines that it makes."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from engine.cli import main
from transport.server.tokens import parse_tokens


def test_a_new_token_is_known_by_its_line() -> None:
    made = CliRunner().invoke(main, ["token", "new", "call-centre"])
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert token not in made.stderr
    assert parse_tokens(made.stderr.splitlines()).name_of(token) == "call-centre"
    assert CliRunner().invoke(main, ["token", "new", "call-centre"]).stdout != made.stdout


def test_the_line_of_a_token_that_there_is() -> None:
    made = CliRunner().invoke(main, ["token", "hash", "friend"], input="my-token\n")
    assert made.exit_code == 0
    assert "my-token" not in made.output
    assert parse_tokens(made.stdout.splitlines()).name_of("my-token") == "friend"


@pytest.mark.parametrize("given", ["", "\n", "two words\n", "\u00fc\n", "x" * 513])
def test_what_is_no_token(given: str) -> None:
    made = CliRunner().invoke(main, ["token", "hash", "friend"], input=given)
    assert made.exit_code == 2
    assert "a token is" in made.stderr


@pytest.mark.parametrize("command", ["new", "hash"])
def test_what_is_no_name(command: str) -> None:
    made = CliRunner().invoke(main, ["token", command, "a:b"], input="x\n")
    assert made.exit_code == 2
    assert made.stdout == ""
