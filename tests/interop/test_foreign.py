"""Foreign clients against `python -m engine.serve`: grpc-js, buf curl and h2load."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from attrs import frozen

from protos import execution_pb2 as execution
from tests.e2e.servers import ServerProcess
from tests.interop import tools
from tests.interop.peers import ROOT, run
from transport.client.channel import open_channel
from transport.client.dial import parse_target
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.grpc.addresses import TcpAddress
from transport.server.tokens import hash_token, new_token

VERSION = f"/{EXECUTION_SERVICE}/GetVersion"
ECHO = {"version": "v1", "nodes": [{"id": "in", "nodeType": "PassThrough"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@frozen
class Secure:
    """Address of a server with TLS and tokens, and the credentials that it accepts."""

    address: str
    ca: Path
    token: str


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    where = tmp_path_factory.mktemp("secure")
    authority, token = trustme.CA(), new_token()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(where / "ca.pem")
    certificate.private_key_pem.write_to_path(where / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(where / "cert.pem")
    (where / "tokens").write_text(f"interop:{hash_token(token)}\n")
    options = [f"--tls-cert={where}/cert.pem", f"--tls-key={where}/key.pem", f"--auth-tokens={where}/tokens"]
    with ServerProcess(*options) as process:
        yield Secure(process.address, where / "ca.pem", token)


# ---- grpc-js

SCENARIOS = (
    "version",
    "execute",
    "executeCompressed",
    "stream",
    "streamsAtOnce",
    "faults",
    "cancel",
    "deadline",
    "unimplemented",
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_grpc_js(server: ServerProcess, scenario: str) -> None:
    run(tools.node(), tools.NODE_DIRECTORY / "client.js", server.address, scenario)


@pytest.mark.parametrize("scenario", ["version", "stream", "unauthenticated"])
def test_grpc_js_with_tls_and_a_token(secure: Secure, scenario: str) -> None:
    run(tools.node(), tools.NODE_DIRECTORY / "client.js", secure.address, scenario, secure.ca, secure.token)


def test_grpc_js_goes_over_to_a_successor() -> None:
    options = ("--reuse-port", "--drain-timeout", "60")
    command = [str(tools.node()), str(tools.NODE_DIRECTORY / "client.js")]
    with ServerProcess("--listen", "127.0.0.1:0", *options, log_level="INFO") as old:
        with subprocess.Popen(
            [*command, old.address, "restart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"ready\n"
            with ServerProcess("--listen", old.address, *options):
                old.process.send_signal(signal.SIGTERM)
                old.read_log("draining 1 calls")
                _, errors = client.communicate(b"\n", timeout=60)
        assert client.returncode == 0, errors.decode()
        assert old.process.wait(60) == 0


# ---- buf curl


def curl(url: str, *arguments: str | Path, data: Any = None) -> str:
    body = () if data is None else ("--data", data if isinstance(data, str) else json.dumps(data))
    return run(tools.buf(), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, *body, url)


@pytest.fixture(scope="module")
def schema_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy our .proto files to an empty directory, because buf reads every file that it finds."""
    where = tmp_path_factory.mktemp("schema")
    shutil.copytree(ROOT / "protos", where / "protos", ignore=lambda _, names: [n for n in names if n[-6:] != ".proto"])
    return where


@pytest.mark.parametrize("how", ["grpc-v1", "grpc-v1alpha", "files"])
def test_buf_curl_knows_our_schema(server: ServerProcess, schema_directory: Path, how: str) -> None:
    schema = ("--schema", str(schema_directory)) if how == "files" else ("--reflect", "--reflect-protocol", how)
    reply = json.loads(curl(f"http://{server.address}{VERSION}", *schema, data={"clientVersion": "v1"}))
    assert reply["compatible"] is True
    assert "VAD" in reply["versionInfo"]["supportedNodeTypes"]


def test_buf_curl_lists_and_describes(server: ServerProcess) -> None:
    listed = curl(f"http://{server.address}", "--list-services").split()
    assert {EXECUTION_SERVICE, STREAMING_SERVICE, "grpc.health.v1.Health"} <= set(listed)
    methods = curl(f"http://{server.address}", "--list-methods").split()
    assert f"{STREAMING_SERVICE}/StreamPipeline" in methods


def test_buf_curl_streams(server: ServerProcess) -> None:
    chunks = [{"dataChunk": {"json": json.dumps({"n": n}), "sequence": n}} for n in range(5)]
    requests = [{"manifest": ECHO}, *chunks, {"control": {"command": "COMMAND_CLOSE"}}]
    path = f"/{STREAMING_SERVICE}/StreamPipeline"
    answers = curl(f"http://{server.address}{path}", data="\n".join(map(json.dumps, requests)))
    found = re.findall(r'\\"n\\":\s*(\d)', answers)
    assert found == list("01234")
    assert '"final": true' in re.sub(r":\s*", ": ", answers)


def test_buf_curl_is_told_the_health(server: ServerProcess) -> None:
    for service in ("", STREAMING_SERVICE):
        reply = curl(f"http://{server.address}/grpc.health.v1.Health/Check", data={"service": service})
        assert json.loads(reply)["status"] == "SERVING"


def test_buf_curl_with_tls_and_a_token(secure: Secure, schema_directory: Path) -> None:
    command = (tools.buf(), "curl", "--protocol", "grpc", "--cacert", secure.ca)
    header = ("--header", f"authorization: Bearer {secure.token}")
    reply = run(*command, *header, "--reflect-header", header[1], "--data", "{}", f"https://{secure.address}{VERSION}")
    assert json.loads(reply)["compatible"] is True
    with pytest.raises(AssertionError, match="this service needs a token"):
        run(*command, "--data", "{}", "--schema", schema_directory, f"https://{secure.address}{VERSION}")


def test_buf_curl_is_told_the_right_code(secure: Secure, schema_directory: Path) -> None:
    command = (tools.buf(), "curl", "--protocol", "grpc", "--cacert", secure.ca, "--schema", schema_directory)
    with pytest.raises(AssertionError) as refused:
        run(*command, "--data", "{}", f"https://{secure.address}{VERSION}")
    assert "unauthenticated" in str(refused.value)


# ---- h2load

FILES = 4096
PATIENCE = ("--preface-timeout", "120", "--settings-timeout", "120", "--frame-timeout", "120")
"""A thousand handshakes at once take a busy machine longer than a server waits for one."""


@pytest.fixture(scope="module")
def many_files() -> Iterator[None]:
    """Raise the limit of open files for a thousand connections, here and in child processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = max(soft, FILES) if hard == resource.RLIM_INFINITY else min(max(soft, FILES), hard)
    assert enough > 2100, f"a process may open {hard} files here; h2load needs 2,100"
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def loaded(many_files: None) -> Iterator[ServerProcess]:
    with ServerProcess("--max-connections", "1100", *PATIENCE) as process:
        yield process


async def answer_bytes(address: str) -> int:
    """Return the size of the answer to `GetVersion` in bytes."""
    target = parse_target(address)
    assert isinstance(target, TcpAddress)
    async with open_channel(target.host, target.port) as channel, channel.call(VERSION, timeout_s=60) as call:
        await call.send(execution.VersionRequest().SerializeToString())
        call.half_close()
        answer = await call.receive()
        assert answer is not None
        return len(answer)


def open_files(process: ServerProcess) -> int:
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


@pytest.mark.parametrize(
    ("requests", "connections", "streams"), [(5000, 1000, 1), (5000, 1, 1000)], ids=["connections", "streams"]
)
def test_h2load(loaded: ServerProcess, tmp_path: Path, requests: int, connections: int, streams: int) -> None:
    """Every request gets its whole answer, and the server then holds no file more than before."""
    answer = trio.run(answer_bytes, loaded.address)
    before = open_files(loaded)
    body = tmp_path / "request"
    body.write_bytes(bytes(5))
    amount = (f"-n{requests}", f"-c{connections}", f"-m{streams}")
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    output = run(tools.h2load(), *amount, *headers, "-d", body, f"http://{loaded.address}{VERSION}", timeout_s=300)
    assert f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in output, output
    traffic = re.search(r"\((\d+)\) data", output)
    assert traffic is not None
    assert int(traffic[1]) == requests * (5 + answer)
    deadline = time.monotonic() + 60
    while open_files(loaded) > before and time.monotonic() < deadline:
        trio.run(trio.testing.wait_all_tasks_blocked, 0.05)
    assert open_files(loaded) <= before
