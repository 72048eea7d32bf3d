import logging

import pytest

from engine.errors import AtCapacity
from transport.auth import TokenFile, hash_token
from transport.doors import Doors, Rules, ShuttingDown, Unauthenticated

RULES = Rules(
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
    doors = Doors(RULES, file)
    first = [doors.enter("/session", by("1"), "") for _ in range(2)]
    with pytest.raises(AtCapacity, match="one has 2 sessions"):
        doors.enter("/session", by("1"), "")
    assert doors.enter("/other", by("1"), "").name == "one"
    doors.enter("/session", by("2"), "")
    with pytest.raises(AtCapacity, match="the server has 3 sessions"):
        doors.enter("/session", by("2"), "")
    doors.leave(first[0])
    doors.leave(doors.enter("/session", by("1"), ""))
    now = doors.statistics()
    assert (now.sessions, now.sessions_by_token) == (2, {"one": 1, "two": 1})
    assert now.calls_by_token == {"one": 4, "two": 1}
    assert now.refused == {"AtCapacity": 2}


def test_who_leaves_leaves_nothing(file):
    doors = Doors(RULES, file)
    for path in ("/session", "/other"):
        doors.leave(doors.enter(path, by("1"), ""))
    assert doors.statistics().sessions_by_token == {}


def test_a_token_comes_before_everything_but_health(file):
    doors = Doors(RULES, file)
    doors.close()
    with pytest.raises(Unauthenticated):
        doors.enter("/session", (), "")
    with pytest.raises(ShuttingDown):
        doors.enter("/session", by("1"), "")
    assert doors.enter("/health", (), "").is_open


def test_without_tokens_everybody_is_nobody_and_the_limit_of_a_token_is_nobodys():
    doors = Doors(RULES)
    passes = [doors.enter("/session", by("whatever"), "") for _ in range(3)]
    assert {passed.name for passed in passes} == {""}
    with pytest.raises(AtCapacity, match="the server has 3"):
        doors.enter("/session", (), "")


def test_failures_are_counted_all_and_logged_few(file, caplog):
    now = [0.0]
    doors = Doors(RULES, file, clock=lambda: now[0])

    def fail(count):
        caplog.clear()
        for _ in range(count):
            with pytest.raises(Unauthenticated):
                doors.enter("/session", by("secret-value"), "1.2.3.4:5")
        return [record.message for record in caplog.records]

    with caplog.at_level(logging.WARNING):
        assert len(fail(1000)) == 5
        now[0] = 11.0
        told = fail(7)
    assert told[0].startswith("995 more calls")
    assert len(told) == 6
    assert "refused /session from 1.2.3.4:5" in told[1]
    assert not any("secret-value" in message for message in told)
    assert doors.statistics().refused == {"Unauthenticated": 1007}
