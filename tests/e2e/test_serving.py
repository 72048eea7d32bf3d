"""`python -m engine.serve` as a process: its output and its endings."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from protos import common_pb2 as pb
from tests.e2e.clients import ROOT, Foreign
from tests.e2e.raw_messages import chunk, final_metrics, ramp
from tests.e2e.servers import ServerProcess


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_cleanly(how: signal.Signals) -> None:
    with ServerProcess() as server:
        code, log = server.stop(how)
        assert code == 0
        assert log == ""


def until_no_more_calls_are_taken(foreign: Foreign) -> None:
    assert any(foreign.unary("GetVersion", b"")[1].code == "UNAVAILABLE" for _ in range(10_000))


def test_a_session_may_end_while_the_server_drains() -> None:
    with ServerProcess("--drain-timeout", "60") as server, Foreign(server.address) as foreign:
        with foreign.session() as talk:
            talk.ask(chunk(ramp(0), 0))
            server.process.send_signal(signal.SIGTERM)
            until_no_more_calls_are_taken(foreign)
            talk.ask(chunk(ramp(1), 1))
            assert final_metrics(talk.finish()).delivered == 2
        assert server.process.wait(60) == 0


def test_a_session_that_does_not_end_is_ended() -> None:
    with ServerProcess("--drain-timeout", "0.1") as server, Foreign(server.address) as foreign:
        with foreign.session() as talk:
            talk.ask(chunk(ramp(0), 0))
            server.process.send_signal(signal.SIGTERM)
            talk.rest()
            assert talk.end.code == "UNAVAILABLE"
            assert "shutting down" in talk.end.message
        assert server.process.wait(60) == 0


def test_a_second_signal_ends_at_once() -> None:
    with (
        ServerProcess("--drain-timeout", "3600") as server,
        Foreign(server.address) as foreign,
        foreign.session() as talk,
    ):
        server.process.send_signal(signal.SIGTERM)
        until_no_more_calls_are_taken(foreign)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        talk.rest()
        assert talk.end.code in ("UNAVAILABLE", "CANCELLED")


def test_a_port_that_is_taken() -> None:
    with ServerProcess() as server:
        port = server.address.rpartition(":")[2]
        command = [sys.executable, "-m", "engine.serve", "--port", port]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 1
    assert second.stdout == ""
    assert re.fullmatch(rf"Error: 127\.0\.0\.1:{port} is in use by another process\n", second.stderr)


def test_what_the_operator_allows_is_what_clients_get() -> None:
    options = ("--max-audio-samples", "200", "--max-memory-mb", "1", "--max-message-mb", "2")
    with (
        ServerProcess(*options) as server,
        Foreign(server.address) as foreign,
        foreign.session(max_audio_samples=10**9, max_memory_bytes=10**12) as talk,
    ):
        error = talk.ask(chunk(ramp(0, 201), 0), "error").error
        assert error.error_type == pb.ERROR_TYPE_RESOURCE_LIMIT
        assert "the limit is 200" in error.message
        talk.ask(chunk(ramp(1, 200), 1))
        talk.send(chunk(ramp(2, 1 << 20), 2))
        talk.rest()
        assert talk.end.code == "RESOURCE_EXHAUSTED"


def test_help_says_nothing_else() -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "engine.serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    assert "--drain-timeout" in done.stdout
