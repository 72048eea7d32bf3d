"""TLS, tokens, admission, health and reflection of the real server, seen by grpcio and its own stubs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from protos import common_pb2 as pb
from tests.e2e.clients import ROOT
from tests.e2e.raw_messages import opening
from tests.e2e.servers import ServerProcess
from transport.codec.details import unpack
from transport.grpc.status import StatusCode
from transport.server.tokens import hash_token, new_token

TIMEOUT = 150


def start(do: str, address: str, **job: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.operator_client"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"do": do, "address": address, **job}))
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: subprocess.Popen[str]) -> Any:
    out, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def ask(do: str, address: str, **job: Any) -> Any:
    return answer(start(do, address, **job))


def details(answered: Any) -> pb.ErrorResponse:
    found = unpack(bytes.fromhex(answered["details"]), StatusCode[answered["code"]])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def stubs() -> None:
    """Skip if grpcio's stubs do not run: they are made for the newest protobuf, and CI also tests the oldest."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.operator_client", "--stubs"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        assert "gencode" in done.stderr, done.stderr
        pytest.skip(f"grpcio's stubs do not run on this protobuf: {done.stderr[:200]}")


class Papers:
    """Certificates in files, all signed by one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = self.write("ca.pem", self.authority.cert_pem.bytes())
        self.cert, self.key = self.issue("server", "localhost", "127.0.0.1")

    def write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    def issue(self, name: str, *identities: str) -> tuple[str, str]:
        made = self.authority.issue_cert(*identities)
        chain = b"".join(each.bytes() for each in made.cert_chain_pems)
        return self.write(f"{name}.pem", chain), self.write(f"{name}.key", made.private_key_pem.bytes())

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert", self.cert, "--tls-key", self.key)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


class TestTls:
    def test_a_client_that_trusts_the_authority_is_served(self, papers: Papers) -> None:
        with ServerProcess(*papers.flags) as server:
            assert ask("version", server.address, ca=papers.ca)["code"] == "OK"
            assert ask("version", server.address)["code"] == "UNAVAILABLE"  # without TLS

    def test_mutual(self, papers: Papers, tmp_path: Path) -> None:
        mine = papers.issue("client", "client@example.org")
        stranger = Papers(tmp_path).issue("stranger", "stranger@example.org")
        with ServerProcess(*papers.flags, "--tls-client-ca", papers.ca) as server:
            for (cert, key), code in ((mine, "OK"), (stranger, "UNAVAILABLE")):
                assert ask("version", server.address, ca=papers.ca, cert=cert, key=key)["code"] == code
            assert ask("version", server.address, ca=papers.ca)["code"] == "UNAVAILABLE"

    @pytest.mark.usefixtures("stubs")
    def test_a_reload_serves_new_connections_and_keeps_the_old(self, tmp_path: Path) -> None:
        old, new = (Papers(tmp_path / name) for name in map(_folder(tmp_path), ("old", "new")))
        with ServerProcess(*old.flags, log_level="INFO") as server:
            watching = start("watch", server.address, ca=old.ca)
            assert watching.stdout is not None
            assert watching.stdout.readline() == "watching\n"
            Path(old.cert).write_text("no certificate")
            server.process.send_signal(signal.SIGHUP)
            assert "stay as they were" in server.read_log("SIGHUP")
            assert ask("version", server.address, ca=old.ca)["code"] == "OK"
            Path(old.cert).write_bytes(Path(new.cert).read_bytes())
            Path(old.key).write_bytes(Path(new.key).read_bytes())
            server.process.send_signal(signal.SIGHUP)
            assert "reloaded the" in server.read_log("SIGHUP")
            assert ask("version", server.address, ca=old.ca)["code"] == "UNAVAILABLE"
            assert ask("version", server.address, ca=new.ca)["code"] == "OK"
            assert watching.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert answer(watching)["seen"] == ["SERVING", "NOT_SERVING"]  # the connection stayed open
            assert server.process.wait(60) == 0

    @pytest.mark.parametrize("case", ["no file", "no certificate", "another's key", "encrypted"])
    def test_what_is_wrong_with_the_files_is_said_at_start(self, case: str, papers: Papers, tmp_path: Path) -> None:
        cert, key, wanted = {
            "no file": (str(tmp_path / "none"), papers.key, "none: No such file"),
            "no certificate": (papers.key, papers.key, "not a PEM certificate with its key"),
            "another's key": (papers.cert, papers.issue("other", "other")[1], "is not the key of the certificate"),
            "encrypted": (papers.cert, papers.write("enc.key", _encrypted(papers.key)), "the key is encrypted"),
        }[case]
        failed = serve_badly("--tls-cert", cert, "--tls-key", key)
        assert wanted in failed

    def test_half_of_the_flags(self, papers: Papers) -> None:
        assert "go together" in serve_badly("--tls-cert", papers.cert, code=2)
        assert "needs --tls-cert" in serve_badly("--tls-client-ca", papers.ca, code=2)


def _folder(root: Path) -> Any:
    def make(name: str) -> str:
        (root / name).mkdir()
        return name

    return make


def _encrypted(path: str) -> bytes:
    from cryptography.hazmat.primitives import serialization as ser

    key = ser.load_pem_private_key(Path(path).read_bytes(), None)
    return key.private_bytes(
        ser.Encoding.PEM, ser.PrivateFormat.TraditionalOpenSSL, ser.BestAvailableEncryption(b"secret")
    )


def serve_badly(*options: str, code: int = 1) -> str:
    command = [sys.executable, "-m", "engine.serve", "--port", "0", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


class TestTokens:
    @pytest.fixture
    def token(self) -> str:
        return new_token()

    @pytest.fixture
    def file(self, token: str, tmp_path: Path) -> Path:
        file = tmp_path / "tokens"
        file.write_text(f"# who may call\n\nfriend:{hash_token(token)}\n")
        return file

    def test_who_gets_in(self, file: Path, token: str) -> None:
        good = ([f"Bearer {token}"], [f"bearer {token}"])
        bad = ([], [f"Bearer {token}x"], [f"Basic {token}"], ["Bearer"], [f"Bearer {token}"] * 2)
        calls = [
            *({"authorization": each} for each in (*good, *bad)),
            {"path": "/no.Such/Method"},
            {"path": "/grpc.health.v1.Health/Check"},
        ]
        with ServerProcess("--auth-tokens", str(file)) as server:
            *answered, nowhere, health = ask("versions", server.address, calls=calls)
            _, log = server.stop()
        assert [each["code"] for each in answered] == ["OK"] * 2 + ["UNAUTHENTICATED"] * 5
        assert {details(each).error_type for each in answered[2:]} == {pb.ERROR_TYPE_AUTHENTICATION}
        assert nowhere["code"] == "UNAUTHENTICATED"  # strangers do not learn which methods exist
        assert health["code"] == "OK"  # health checks need no token
        assert "refused /" in log
        assert token not in log

    def test_a_foreign_reader_understands_why(self, file: Path) -> None:
        with ServerProcess("--auth-tokens", str(file)) as server:
            answered = ask("explain", server.address)
        assert answered["code"] == "UNAUTHENTICATED"
        assert answered["kinds"] == ["remotemedia.v1.ErrorResponse"]
        assert pb.ErrorResponse.FromString(bytes.fromhex(answered["values"][0])) == details(answered)

    def test_a_session_is_logged_by_its_tokens_name(self, file: Path, token: str) -> None:
        with ServerProcess("--auth-tokens", str(file), log_level="INFO") as server:
            job = {"sessions": 1, "opening": opening().SerializeToString().hex()}
            ask("fill", server.address, authorization=[f"Bearer {token}"], **job)
            line = server.read_log("StreamPipeline")
            _, log = server.stop()
        assert "(friend)" in line
        assert token not in line + log

    def test_the_server_tells_its_statistics(self, file: Path, token: str) -> None:
        with ServerProcess("--auth-tokens", str(file)) as server:
            ask("version", server.address, authorization=[f"Bearer {token}"])
            ask("version", server.address)
            server.process.send_signal(signal.SIGUSR1)
            assert server.process.stdout is not None
            answered = json.loads(server.process.stdout.readline())
        now = {"connections": answered["connections"], "calls": 0, "sessions": 0, "sessions_by_token": {}}
        so_far = {"calls_by_token": {"friend": 1}, "refused": {"Unauthenticated": 1}}
        assert answered == {**now, **so_far, "abandoned_calls": 0, "event_loop_holds": {}}

    def test_a_reload_lets_others_in(self, file: Path, token: str) -> None:
        other = new_token()
        with ServerProcess("--auth-tokens", str(file), log_level="INFO") as server:
            for content, wanted, mine, others in (
                ("nonsense", "line 1: not NAME:SHA256", "OK", "UNAUTHENTICATED"),
                (f"other:{hash_token(other)}", "reloaded the", "UNAUTHENTICATED", "OK"),
            ):
                file.write_text(content)
                server.process.send_signal(signal.SIGHUP)
                assert wanted in server.read_log("SIGHUP")
                calls = [{"authorization": [f"Bearer {each}"]} for each in (token, other)]
                answered = ask("versions", server.address, calls=calls)
                assert [each["code"] for each in answered] == [mine, others]

    def test_a_file_that_cannot_be_used(self, tmp_path: Path) -> None:
        assert "No such file" in serve_badly("--auth-tokens", str(tmp_path / "none"))
        (tmp_path / "bad").write_text("friend:123\n")
        assert "line 1" in serve_badly("--auth-tokens", str(tmp_path / "bad"))

    @pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
    def test_tokens_in_the_clear(self, host: str, warned: bool, file: Path) -> None:
        with ServerProcess("--listen", f"{host}:0", "--auth-tokens", str(file)) as server:
            _, log = server.stop()
        assert ("in the clear" in log) is warned


class TestAdmission:
    def test_sessions_over_the_limit(self) -> None:
        with ServerProcess("--max-sessions", "2") as server:
            job = {"sessions": 3, "opening": opening().SerializeToString().hex()}
            *fine, refused = ask("fill", server.address, **job)["outcomes"]
        assert [each["code"] for each in fine] == ["OK", "OK"]
        assert refused["code"] == "RESOURCE_EXHAUSTED"
        assert refused["pushback"] == "1000"
        assert details(refused).retryable

    def test_sessions_of_one_token_over_the_limit(self, tmp_path: Path) -> None:
        one, two = new_token(), new_token()
        (tmp_path / "tokens").write_text(f"one:{hash_token(one)}\ntwo:{hash_token(two)}\n")
        options = ("--auth-tokens", str(tmp_path / "tokens"), "--max-sessions-per-token", "1")
        with ServerProcess(*options) as server:
            job = {"sessions": 2, "opening": opening().SerializeToString().hex()}
            for token in (one, two):
                outcomes = ask("fill", server.address, authorization=[f"Bearer {token}"], **job)["outcomes"]
                assert [each["code"] for each in outcomes] == ["OK", "RESOURCE_EXHAUSTED"]


@pytest.mark.usefixtures("stubs")
class TestHealth:
    def test_each_service(self, server: ServerProcess) -> None:
        for service in ("", "remotemedia.v1.PipelineExecutionService", "remotemedia.v1.StreamingPipelineService"):
            assert ask("check", server.address, service=service)["status"] == "SERVING"
        answered = ask("check", server.address, service="no.Such")
        assert answered["code"] == "NOT_FOUND"

    def test_a_watcher_hears_of_the_end(self) -> None:
        with ServerProcess("--drain-timeout", "3600") as server:
            watching = start("watch", server.address)
            assert watching.stdout is not None
            assert watching.stdout.readline() == "watching\n"
            server.process.send_signal(signal.SIGTERM)
            answered = answer(watching)
            assert answered["seen"] == ["SERVING", "NOT_SERVING"]
            assert answered["code"] == "UNAVAILABLE"
            assert server.process.wait(60) == 0  # a drain does not wait for watchers


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(version: str, server: ServerProcess) -> None:
    symbols = [
        "remotemedia.v1.StreamingPipelineService",
        "remotemedia.v1.StreamingPipelineService.StreamPipeline",
        "remotemedia.v1.StreamControl.Command",
        "grpc.health.v1.HealthCheckRequest",
        "no.Such",
    ]
    answered = ask("reflect", server.address, version=version, symbols=symbols, files=["protos/common.proto", "os.py"])
    assert answered["services"] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "remotemedia.v1.PipelineExecutionService",
        "remotemedia.v1.StreamingPipelineService",
    ]
    streaming = ["protos/streaming.proto", "protos/common.proto"]
    assert answered["files"] == [
        streaming,
        streaming,
        streaming,
        ["protos/health.proto"],
        5,
        ["protos/common.proto"],
        5,
    ]


@pytest.mark.usefixtures("stubs")
def test_reflection_needs_a_token_and_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"one:{hash_token(new_token())}\n")
    job: dict[str, Any] = {"version": "v1", "symbols": [], "files": []}
    for options, code in (
        (("--auth-tokens", str(tmp_path / "tokens")), "UNAUTHENTICATED"),
        (("--no-reflection",), "UNIMPLEMENTED"),
    ):
        with ServerProcess(*options) as server:
            assert ask("reflect", server.address, **job)["code"] == code
