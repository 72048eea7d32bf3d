"""`headrace stream` and `headrace version`: against a server in a process of its own."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trustme

from engine.cli.common.manifests import DATA
from tests.cli.programs import (
    RESAMPLE,
    Program,
    invoke,
    lines_of,
    of_type,
    run_program,
    server,
    write_manifest,
    write_tone,
)
from transport.server.tokens import hash_token, new_token


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as (_, where):
        yield where


def test_stream_and_run_give_the_same(address: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.json", {"r": {**RESAMPLE, "is_output": True}, "vad": "VAD"}, [("r", "vad")])
    sample = str(DATA / "speech.flac")
    there = invoke("stream", sample, "--address", address, "-m", manifest, "--out-dir", tmp_path / "there", "--json")
    here = invoke("run", sample, "-m", manifest, "--out-dir", tmp_path / "here", "--json")
    assert (there.exit_code, here.exit_code) == (0, 0)
    assert of_type(lines_of(there.stdout), "segment") == of_type(lines_of(here.stdout), "segment") != []
    assert (tmp_path / "there" / "vad.jsonl").read_text() == (tmp_path / "here" / "vad.jsonl").read_text()
    np.testing.assert_array_equal(
        soundfile.read(tmp_path / "there" / "r.wav")[0], soundfile.read(tmp_path / "here" / "r.wav")[0]
    )
    assert lines_of(there.stdout)[-1]["balanced"] is True


def test_faults_that_the_server_finds_exit_2_with_their_paths(address: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.json", {"a": "Nix"})
    done = invoke("stream", write_tone(tmp_path / "t.wav"), "--address", address, "-m", manifest)
    assert done.exit_code == 2
    assert "nodes[0].node_type: 'Nix' is unknown" in done.stderr


def test_no_server_is_a_failure_that_says_so(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        done = invoke("stream", write_tone(tmp_path / "t.wav"), "--address", address, "--json")
    assert done.exit_code == 1
    assert address in done.stderr
    assert lines_of(done.stdout)[0]["type"] == "error"


def test_an_address_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    done = invoke("stream", tmp_path / "t.wav", "--address", "here")
    assert (done.exit_code, "HOST:PORT" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "content", "fact"),
    [
        ("--tls-ca", None, "No such file"),
        ("--tls-ca", b"", "not PEM certificates"),
        ("--tls-cert", b"", "go together"),
        ("--token-file", None, "No such file"),
        ("--token-file", b" \n", "no token in it"),
        ("--token-file", b"secret\nsecret", "one line of printable ASCII"),
        ("--token-file", b"\xffsecret", "one line of printable ASCII"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, option: str, content: bytes | None, fact: str) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    for command in (["stream", tmp_path / "t.wav"], ["version"]):
        done = invoke(*command, "--address", "127.0.0.1:1", option, path)
        assert (done.exit_code, fact in done.stderr, "secret" in done.output) == (2, True, False)


def test_tls_a_token_and_a_unix_socket(tmp_path: Path) -> None:
    authority, token = trustme.CA(), new_token()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "tokens").write_text(f"me:{hash_token(token)}\n")
    (tmp_path / "token").write_text(f"{token}\n")
    address = f"unix:{tmp_path}/socket"
    secure = (f"--tls-cert={tmp_path}/cert.pem", f"--tls-key={tmp_path}/key.pem", f"--auth-tokens={tmp_path}/tokens")
    program = Program("--listen", address, *secure, module="engine.serve")
    program.line("listening on")
    believed, known = f"--tls-ca={tmp_path}/ca.pem", f"--token-file={tmp_path}/token"
    done = invoke("stream", str(DATA / "speech.flac"), "--address", address, believed, known, "--json")
    assert (done.exit_code, lines_of(done.stdout)[-1]["balanced"]) == (0, True)
    for options, fact in (((believed,), "token"), ((known,), "UNAVAILABLE"), ((known, "--tls"), "not trusted")):
        refused = invoke("version", "--address", address, *options)
        assert refused.exit_code == 1, options
        assert fact in refused.stderr
        assert token not in refused.output
    program.signal(signal.SIGTERM)
    assert token not in program.finish().err


def test_a_unix_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    done = invoke("version", "--address", f"unix:{tmp_path}/nobody")
    assert done.exit_code == 1
    assert "cannot connect to unix:" in done.stderr


def test_a_server_that_dies_is_an_error_not_a_hang() -> None:
    with server() as (program, where):
        client = Program("stream", str(DATA / "speech.flac"), "--address", where, "--realtime", "--json")
        client.line('"sequence": 10')
        program.process.kill()
        done = client.finish()
    assert done.code == 1
    summary = of_type(done.lines, "summary")[0]
    assert summary["failure"]
    assert summary["results"] >= 10
    assert summary["balanced"] is None  # the final metrics never arrived
    assert "Traceback" not in done.err


def test_ctrl_c_ends_the_session_on_the_server_and_tells_its_last_account(address: str) -> None:
    client = Program("stream", str(DATA / "speech.flac"), "--address", address, "--realtime", "--json")
    client.line('"sequence": 25')
    client.signal(signal.SIGINT)
    done = client.finish()
    summary = done.lines[-1]
    assert (done.code, summary["interrupted"], summary["failure"]) == (130, True, None)
    assert summary["metrics"]["final"] is True
    assert summary["balanced"] is True


def test_ctrl_c_ends_a_stream_that_goes_as_fast_as_it_can(address: str, tmp_path: Path) -> None:
    long = write_tone(tmp_path / "long.wav", frames=8_000 * 300, rate=8_000)
    client = Program("stream", long, "--address", address, "--json")
    client.line('"sequence": 100')
    client.signal(signal.SIGINT)
    done = client.finish()
    assert done.code == 130
    assert done.lines[-1]["type"] == "summary"
    assert done.lines[-1]["results"] < 15_000


def test_ctrl_c_ends_a_command_that_waits_for_a_server_that_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        client = Program("stream", write_tone(tmp_path / "t.wav"), "--address", where)
        with silent.accept()[0]:
            client.signal(signal.SIGINT)
            done = client.finish()
    assert (done.code, "Traceback" in done.err) == (130, False)


def test_version_asks_the_server(address: str) -> None:
    done = run_program("version", "--address", address, "--json")
    assert done.code == 0
    told = done.lines[0]
    assert told["protocol"] == "v1"
    assert told["server"]["compatible"] is True
    assert "VAD" in told["server"]["node_types"]
    assert "compatible" in invoke("version", "--address", address).stdout
