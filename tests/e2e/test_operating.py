"""The real server in operation: its addresses, the orderly end of sessions, and its behaviour when full."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

from engine.serve.command import main
from protos import common_pb2 as pb
from tests.e2e.clients import ROOT, Foreign
from tests.e2e.raw_messages import (
    CANCEL,
    chunk,
    errors,
    final_metrics,
    opening,
    pipeline,
    ramp,
    results,
)
from tests.e2e.servers import ServerProcess
from transport.codec.methods import EXECUTION_SERVICE

STUCK = """
import logging, threading
import attrs
from nodes.contract import Node

@attrs.define
class Stuck(Node):
    placement = "thread"

    def process(self, item):
        logging.error("stuck")
        threading.Event().wait()
"""

RESAMPLER = pipeline({"in": ("AudioResample", {"target_sample_rate": 8_000})})


def get_version(foreign: Foreign, address: str) -> str:
    """Call GetVersion on a new connection; return the status code."""
    _, (code, _, _) = foreign.ask("unary", address, f"/{EXECUTION_SERVICE}/GetVersion", b"", 60)
    foreign.ask("disconnect", address)
    return str(code)


def test_several_addresses(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen = ("--listen", "127.0.0.1:0", "--listen", f"unix:{path}", "--listen", "[::1]:0")
    with ServerProcess(*listen) as server, Foreign("") as foreign:
        addresses = [server.address, server.next_address(), server.next_address()]
        assert addresses[1] == f"unix:{path}"
        assert addresses[2].startswith("[::1]:")
        assert [get_version(foreign, address) for address in addresses] == ["OK"] * 3
    assert not path.exists()


def test_a_socket_that_is_handed_in() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    options = ("--fd", str(sock.fileno()))
    with sock, ServerProcess(*options, pass_fds=[sock.fileno()]) as server, Foreign("") as foreign:
        assert server.address == f"127.0.0.1:{sock.getsockname()[1]}"
        assert get_version(foreign, server.address) == "OK"


def test_two_ways_to_say_where() -> None:
    command = [sys.executable, "-m", "engine.serve", "--port", "0", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "not both" in done.stderr


def test_a_port_that_two_share() -> None:
    with (
        ServerProcess("--listen", "127.0.0.1:0", "--reuse-port") as one,
        ServerProcess("--listen", one.address, "--reuse-port") as two,
        Foreign("") as foreign,
    ):
        assert two.address == one.address
        one.stop()
        assert get_version(foreign, two.address) == "OK"


def test_a_drain_closes_sessions_and_delivers_their_tails() -> None:
    with ServerProcess("--drain-timeout", "0.1") as server, Foreign(server.address) as foreign:
        with foreign.session(RESAMPLER) as talk:
            for i in range(3):
                talk.ask(chunk(ramp(i, 1600), i))
            server.process.send_signal(signal.SIGTERM)
            responses = talk.rest()
        assert talk.end.code == "UNAVAILABLE"
        assert "closed the session" in talk.end.message
        assert talk.end.error.retryable
        metrics = final_metrics(responses)
        assert (metrics.accepted, metrics.delivered, metrics.cancelled) == (3, 3, 0)
        assert results(responses)[-1].flush
        frames = sum(each.result.audio_outputs["in"].num_samples for each in results(responses))
        assert frames == 2400  # to the last sample
        (failure,) = errors(responses)
        assert failure.error.retryable
        assert server.process.wait(60) == 0


def test_a_session_to_which_nothing_comes_is_closed() -> None:
    with ServerProcess("--session-idle-timeout", "0.3") as server, Foreign(server.address) as foreign:
        with foreign.stream(opening(RESAMPLER), chunk(ramp(0, 1600), 0)) as talk:
            responses = talk.rest()
        assert talk.end.code == "DEADLINE_EXCEEDED"
        assert "nothing came for 0.3 s" in talk.end.message
        assert talk.end.error.error_type == pb.ERROR_TYPE_RESOURCE_LIMIT
        assert final_metrics(responses).delivered == 1
        assert results(responses)[-1].flush
        with foreign.stream() as silent:
            silent.rest()
            assert silent.end.code == "DEADLINE_EXCEEDED"
            assert "no manifest came" in silent.end.message


def test_failures_of_the_transport_are_explained_too() -> None:
    with ServerProcess() as server, Foreign(server.address) as foreign:
        _, ended = foreign.unary("NoSuchMethod", b"")
        assert ended.code == "UNIMPLEMENTED"
        assert "NoSuchMethod" in ended.error.message


def test_no_file_descriptors_left() -> None:
    """A new connection is refused or closed at once, an open one is served, and freed descriptors restore the rest."""
    with ServerProcess() as server, Foreign(server.address) as foreign:
        with foreign.session() as talk:
            talk.ask(chunk(ramp(0), 0))
            pid = server.process.pid
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = len(os.listdir(f"/proc/{pid}/fd"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, limits[1]))
            host, port = server.address.split(":")
            held = [socket.create_connection((host, int(port)), timeout=60) for _ in range(12)]
            refused = 0
            for each in held[3:]:
                data = each.makefile("rb").read()  # to the end: the server closes it
                refused += b"too many connections" in data
            assert refused == 9
            talk.ask(chunk(ramp(1), 1))
            assert get_version(foreign, f"ipv4:{server.address}") == "UNAVAILABLE"
            for each in held:
                each.close()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            assert get_version(foreign, f"ipv4:{server.address}") == "OK"
            assert final_metrics(talk.finish()).delivered == 2
        code, log = server.stop()
        assert code == 0
        assert log.count("turned away") >= 1
        assert "Traceback" not in log


def test_the_document_names_every_flag_with_its_default() -> None:
    table = (ROOT / "transport/README.md").read_text().partition("## Flags")[2].partition("## Signals")[0]
    rows = dict(re.findall(r"^\| (`--[^|]+) \| ([^|]*)\|", table, re.MULTILINE))
    documented = {flag: default.strip() for flags, default in rows.items() for flag in re.findall(r"--[a-z-]+", flags)}
    there = {option.opts[0]: option for option in main.params}
    assert documented.keys() - {"--no-reflection"} == there.keys()
    for flag, option in there.items():
        if isinstance(option.default, (int, float)) and not isinstance(option.default, bool):
            assert float(documented[flag].removesuffix(" s")) == option.default, flag


def test_calls_that_outlive_their_sessions_keep_others_out(tmp_path: Path) -> None:
    nodes = tmp_path / "stuck.py"
    nodes.write_text(STUCK)
    options = ("--nodes", str(nodes), "--worker-threads", "1", "--max-abandoned-calls", "1")
    with ServerProcess(*options) as server, Foreign(server.address) as foreign:
        with foreign.session(pipeline({"stuck": "Stuck"})) as talk:
            talk.send(chunk(ramp(0, 160), 0))
            server.read_log("stuck")
            talk.send(CANCEL)
            assert final_metrics(talk.rest()).cancelled == 1
        assert talk.end.code == "OK"
        server.process.send_signal(signal.SIGUSR1)
        assert server.process.stdout is not None
        assert json.loads(server.process.stdout.readline())["abandoned_calls"] == 1
        _, end = foreign.whole(opening())
        assert end.code == "RESOURCE_EXHAUSTED"
        assert "1 abandoned" in end.message
