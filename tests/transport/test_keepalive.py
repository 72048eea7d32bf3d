from __future__ import annotations

import math

import pytest

from transport.grpc.keepalive import Close, ConnectionTimers, Ping
from transport.grpc.limits import Limits

TIMEOUTS = ["preface", "settings", "frame", "message", "idle", "keepalive"]
NEVER = {f"{name}_timeout_s": 0 for name in TIMEOUTS} | {"keepalive_interval_s": 0}


def watch(client_side: bool = False, **timeouts: float) -> ConnectionTimers:
    found = ConnectionTimers(Limits(**{**NEVER, **timeouts}), client_side=client_side, at=0)
    found.settings_at = 0.0
    found.acknowledged = True
    return found


def look(it: ConnectionTimers, at: float, *, calls: int = 0, seen: int = 0, since: float | None = None):
    return it.look(at, calls=calls, calls_seen=seen, frame_since=since)


def test_with_all_timeouts_off_nothing_is_ever_due():
    it = watch()
    it.acknowledged = False
    assert look(it, 1e9, since=0.0) is None
    assert it.next_look(1e9, calls=0, frame_since=0.0) == math.inf


@pytest.mark.parametrize("name", ["preface_timeout_s", "settings_timeout_s"])
def test_the_beginning(name):
    it = watch(**{name: 7})
    it.acknowledged = False
    if name == "preface_timeout_s":
        it.settings_at = None
    assert look(it, 6.9) is None
    assert it.next_look(6.9, calls=0, frame_since=None) == 7
    assert isinstance(look(it, 7), Close)


def test_a_connection_with_calls_now_and_then_is_not_idle():
    it = watch(idle_timeout_s=100)
    for at in range(0, 1000, 90):
        assert look(it, at, seen=at) is None  # each call came and went between two looks
    assert look(it, 1089, seen=990) is None
    assert isinstance(look(it, 1090, seen=990), Close)


def test_a_client_is_never_idle():
    assert look(watch(client_side=True, idle_timeout_s=100), 1e6) is None


@pytest.mark.parametrize(("client_side", "calls", "pings"), [(False, 0, True), (True, 0, False), (True, 1, True)])
def test_who_pings_when(client_side, calls, pings):
    it = watch(client_side, keepalive_interval_s=60, keepalive_timeout_s=20)
    assert look(it, 59, calls=calls) is None
    assert isinstance(look(it, 60, calls=calls), Ping) is pings


def test_a_byte_heard_is_a_sign_of_life():
    it = watch(keepalive_interval_s=60, keepalive_timeout_s=20)
    assert isinstance(look(it, 60), Ping)
    it.last_bytes_at = 79.0
    assert look(it, 80) is None
    assert isinstance(look(it, 139), Ping)
    assert look(it, 158) is None
    assert isinstance(look(it, 159), Close)


def test_no_deadline_that_comes_up_meanwhile_is_slept_through():
    it = watch(frame_timeout_s=30, idle_timeout_s=300)
    assert it.next_look(0, calls=0, frame_since=None) <= 30
    assert isinstance(look(it, 31, since=1.0), Close)
