"""The tests' end of the foreign client's pipe: unary calls and streams. Every operation is bounded by a timeout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from tests.e2e.raw_messages import CLOSE, ECHO, Request, Response, opening
from transport.codec.details import unpack
from transport.grpc.status import StatusCode

ROOT = Path(__file__).resolve().parents[2]
CALL_S = 120.0

_EXECUTION = "/remotemedia.v1.PipelineExecutionService/"


@attrs.frozen
class Ended:
    """The end of a call, as grpcio reports it."""

    code: str
    message: str
    details: bytes

    @property
    def error(self) -> pb.ErrorResponse:
        """The service's own error, from the details."""
        found = unpack(self.details, StatusCode[self.code])
        assert found is not None
        return found


class Foreign:
    """A grpcio client in a separate process, pointed at one server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", "tests.e2e.grpcio_client", str(theirs.fileno())]
        self.process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the client by SIGKILL, so that it sends nothing more."""
        self.process.kill()
        self.process.wait(60)

    def ask(self, command: str, *arguments: Any, timeout: float = CALL_S + 10) -> Any:
        self._pipe.send((command, arguments))
        if not self._pipe.poll(timeout):
            self.kill()
            raise TimeoutError(f"the foreign client did not answer {command!r} within {timeout} s")
        value, error = self._pipe.recv()
        if error is not None:
            raise RuntimeError(error)
        return value

    def unary(self, method: str, request: bytes, timeout: float = CALL_S) -> tuple[bytes | None, Ended]:
        response, ended = self.ask("unary", self.address, _EXECUTION + method, request, timeout)
        return response, Ended(*ended)

    def get_version(self, client_version: str = "") -> execution.VersionResponse:
        request = execution.VersionRequest(client_version=client_version)
        response, ended = self.unary("GetVersion", request.SerializeToString())
        assert ended.code == "OK", ended
        return execution.VersionResponse.FromString(response)

    def execute(self, request: execution.ExecuteRequest) -> execution.ExecuteResponse:
        """Call ExecutePipeline, which must end with status OK, whatever its outcome."""
        response, ended = self.unary("ExecutePipeline", request.SerializeToString())
        assert ended.code == "OK", ended
        return execution.ExecuteResponse.FromString(response)

    def stream(self, *requests: Request | bytes, timeout: float | None = CALL_S) -> Talk:
        """Open a streaming call and send these requests."""
        talk = Talk(self, self.ask("open", self.address, timeout))
        talk.send(*requests)
        return talk

    def session(self, manifest: pb.PipelineManifest = ECHO, **options: Any) -> Talk:
        """Open a session and wait until it is ready; `options` as for `raw_messages.opening`."""
        talk = self.stream(opening(manifest, **options))
        talk.ready = talk.expect("ready").ready
        return talk

    def whole(self, *requests: Request | bytes) -> tuple[list[Response], Ended]:
        """Send all requests, half-close, and read to the end."""
        with self.stream(*requests) as talk:
            talk.half_close()
            return talk.rest(), talk.end


class Talk:
    """A streaming call.

    Attributes:
      responses: Responses read so far.
      times: Their times of arrival, on the foreign process's monotonic clock.
      ready: The session's `ready` message.
    """

    ready: Any

    def __init__(self, foreign: Foreign, number: int) -> None:
        self.responses: list[Response] = []
        self.times: list[float] = []
        self._foreign = foreign
        self._number = number
        self._ended: Ended | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._foreign.process.poll() is None:
            self.reset()

    def send(self, *requests: Request | bytes, interval: float = 0.0) -> None:
        encoded = [each if isinstance(each, bytes) else each.SerializeToString() for each in requests]
        self._foreign.ask("send", self._number, encoded, interval)

    def half_close(self) -> None:
        self._foreign.ask("half_close", self._number)

    def reset(self) -> None:
        self._foreign.ask("reset", self._number)

    def wait_quiet(self, seconds: float) -> int:
        """Wait until grpcio has pulled no request for this long; return the number of pulled requests."""
        return int(self._foreign.ask("wait_quiet", self._number, seconds))

    def read(self, count: int | None) -> list[Response]:
        """Read this many responses, fewer if the call ends before; None reads to the end."""
        if self._ended is not None:
            return []
        responses, ended = self._foreign.ask("read", self._number, count)
        read = [Response.FromString(response) for _, response in responses]
        self.times += [time for time, _ in responses]
        self.responses += read
        self._ended = None if ended is None else Ended(*ended)
        return read

    def rest(self) -> list[Response]:
        """Read to the end; return all responses of the call."""
        self.read(None)
        return self.responses

    def expect(self, kind: str) -> Response:
        """Return the next response that is not periodic metrics; it must be of this kind."""
        while True:
            (response,) = self.read(1) or [None]
            assert response is not None, f"expected {kind}, the call ended with {self._ended}"
            what = response.WhichOneof("response")
            if what == "metrics" and kind != "metrics" and not response.metrics.final:
                continue
            assert what == kind, response
            return response

    @property
    def end(self) -> Ended:
        """The end of the call, which must have been read to its end."""
        assert self._ended is not None
        return self._ended

    def ask(self, request: Request, kind: str = "result") -> Response:
        """Send one request and expect its answer; a refusal is sent at once, ahead of results under way."""
        self.send(request)
        return self.expect(kind)

    def finish(self, *requests: Request) -> list[Response]:
        """Send these requests and CLOSE, and read to the end, which must be OK; return all responses of the call."""
        self.send(*requests, CLOSE)
        self.half_close()
        self.rest()
        assert self.end.code == "OK", self.end
        return self.responses


def sequences(responses: Iterable[Response]) -> list[int]:
    return [response.sequence for response in responses]


def kinds(responses: Sequence[Response]) -> list[str]:
    """Return the kinds of the responses, without periodic metrics."""
    found = [response.WhichOneof("response") or "" for response in responses]
    return [
        kind for kind, response in zip(found, responses, strict=True) if kind != "metrics" or response.metrics.final
    ]
