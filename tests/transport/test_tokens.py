from __future__ import annotations

import hashlib

import pytest

from transport.server.tokens import (
    BadTokenFile,
    NotAuthenticated,
    TokenFile,
    Tokens,
    check_name,
    hash_token,
    new_token,
    parse_tokens,
)

ONE, TWO = "a" * 40, "b" * 40


def bearer(*values):
    return tuple(("authorization", value) for value in values)


def lines(**tokens):
    return [f"{name}:{hash_token(token)}" for name, token in tokens.items()]


def test_a_token_is_known_by_its_hash():
    tokens = parse_tokens(["# comment", "", *lines(one=ONE, two=TWO), f"one:{hash_token('newer').upper()}"])
    assert hash_token(ONE) == hashlib.sha256(ONE.encode()).hexdigest()
    assert tokens.names == {"one", "two"}
    assert tokens.authenticate(bearer(f"Bearer {ONE}")) == "one"
    assert tokens.authenticate((("x", "y"), *bearer(f"bearer  {TWO} "))) == "two"
    assert tokens.authenticate(bearer("Bearer newer")) == "one"  # a name keeps two tokens while one replaces the other


@pytest.mark.parametrize(
    "values",
    [(), ("",), (ONE,), ("Bearer",), ("Bearer ",), (f"Basic {ONE}",), (f"Bearer {ONE}x",), (f"Bearer {ONE}",) * 2,
     ("Bearer " + "x" * 100_000,), ("Bearer \udcff",), ("Bearer ü",)],
)  # fmt: skip
def test_who_is_not_known(values):
    with pytest.raises(NotAuthenticated) as caught:
        parse_tokens(lines(one=ONE)).authenticate(bearer(*values))
    assert ONE not in str(caught.value)


def test_every_entry_is_compared_whichever_it_is(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    tokens = parse_tokens(lines(one=ONE, two=TWO, three="c"))
    for token in (ONE, TWO, "none of them"):
        tokens.name_of(token)
        assert len(compared) == 3
        compared.clear()


def test_nobody_gets_in_by_an_empty_file():
    with pytest.raises(NotAuthenticated):
        Tokens().authenticate(bearer(f"Bearer {ONE}"))


@pytest.mark.parametrize(
    "line", ["x", "x:", "x:12", ":" + "0" * 64, "a b:" + "0" * 64, "x:" + "g" * 64, "x:" + "0" * 65]
)
def test_a_line_that_is_none(line):
    with pytest.raises(BadTokenFile, match="line 2: not NAME:SHA256") as caught:
        parse_tokens(["", line])
    assert "00" not in str(caught.value)


def test_one_token_for_two():
    with pytest.raises(BadTokenFile, match="line 2: the same hash as on line 1"):
        parse_tokens(lines(one=ONE, two=ONE))


def test_a_file_that_turns_bad_leaves_what_was_read(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("\n".join(lines(one=ONE)))
    file = TokenFile(path)
    path.write_bytes(b"\xff")
    with pytest.raises(BadTokenFile, match="not UTF-8"):
        file.reload()
    path.unlink()
    with pytest.raises(BadTokenFile, match="No such file"):
        file.reload()
    assert file.tokens.names == {"one"}
    path.write_text("")
    file.reload()
    assert not file.tokens.names


def test_new_tokens_differ_and_can_be_sent():
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.isascii() and token.isprintable() and " " not in token and len(token) > 40 for token in made)


@pytest.mark.parametrize("name", ["", "-x", "a:b", "a b", "x" * 65, "ü", "a\n"])
def test_names_that_cannot_be(name):
    with pytest.raises(ValueError, match="1 to 64"):
        check_name(name)


def test_names_that_can_be():
    for name in ("a", "call-centre.1", "someone@example.org", "x" * 64):
        assert check_name(name) == name
