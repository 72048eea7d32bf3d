from __future__ import annotations

import logging

import pytest

from engine.errors import AtCapacity
from transport.server.access import AccessControl, AccessPolicy, ShuttingDown, Unauthenticated
from transport.server.tokens import TokenFile, hash_token

RULES = AccessPolicy(
    open_paths=frozenset({"/health"}), session_paths=frozenset({"/session"}), max_sessions=3, max_sessions_per_token=2
)


def by(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"one:{hash_token('1')}\ntwo:{hash_token('2')}\n")
    return TokenFile(path)


def test_sessions_are_counted_by_token_and_in_all(file):
    access = AccessControl(RULES, file)
    first = [access.admit("/session", by("1"), "") for _ in range(2)]
    with pytest.raises(AtCapacity, match="token one has reached its limit of 2 open sessions"):
        access.admit("/session", by("1"), "")
    assert access.admit("/other", by("1"), "").name == "one"
    access.admit("/session", by("2"), "")
    with pytest.raises(AtCapacity, match="the server has reached its limit of 3 open sessions"):
        access.admit("/session", by("2"), "")
    access.release(first[0])
    access.release(access.admit("/session", by("1"), ""))
    now = access.statistics()
    assert (now.sessions, now.sessions_by_token) == (2, {"one": 1, "two": 1})
    assert now.calls_by_token == {"one": 4, "two": 1}
    assert now.refused == {"AtCapacity": 2}


def test_who_leaves_leaves_nothing(file):
    access = AccessControl(RULES, file)
    for path in ("/session", "/other"):
        access.release(access.admit(path, by("1"), ""))
    assert access.statistics().sessions_by_token == {}


def test_a_token_comes_before_everything_but_health(file):
    access = AccessControl(RULES, file)
    access.close()
    with pytest.raises(Unauthenticated):
        access.admit("/session", (), "")
    with pytest.raises(ShuttingDown):
        access.admit("/session", by("1"), "")
    assert access.admit("/health", (), "").is_open


def test_without_tokens_everybody_is_nobody_and_the_limit_of_a_token_is_nobodys():
    access = AccessControl(RULES)
    passes = [access.admit("/session", by("whatever"), "") for _ in range(3)]
    assert {passed.name for passed in passes} == {""}
    with pytest.raises(AtCapacity, match="the server has reached its limit of 3"):
        access.admit("/session", (), "")


def test_failures_are_counted_all_and_logged_few(file, caplog):
    now = [0.0]
    access = AccessControl(RULES, file, clock=lambda: now[0])

    def fail(count):
        caplog.clear()
        for _ in range(count):
            with pytest.raises(Unauthenticated):
                access.admit("/session", by("secret-value"), "1.2.3.4:5")
        return [record.message for record in caplog.records]

    with caplog.at_level(logging.WARNING):
        assert len(fail(1000)) == 5
        now[0] = 11.0
        told = fail(7)
    assert told[0].startswith("refused 995 more calls")
    assert len(told) == 6
    assert "refused /session from 1.2.3.4:5" in told[1]
    assert not any("secret-value" in message for message in told)
    assert access.statistics().refused == {"Unauthenticated": 1007}
