"""A foreign client for an operator's features: TLS, tokens, health and reflection, by grpcio and its own stubs.

Run as `python -m tests.e2e.operator_client` with a JSON object on standard input; it answers with one on standard
output. With `--stubs` it only checks that grpcio's stubs work with this protobuf. None of our code is imported here,
because grpcio's packages declare the same messages, and a process can register them only once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_status import rpc_status

try:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
except ImportError:
    raise
except Exception as error:  # protobuf's VersionError: the generated code needs a newer protobuf
    if len(sys.argv) > 1:
        sys.exit(str(error))

VERSION = "/remotemedia.v1.PipelineExecutionService/GetVersion"
TIMEOUT = 120


def channel(job: dict[str, Any]) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    if "ca" not in job:
        return grpc.insecure_channel(job["address"], options)

    def read(name: str) -> bytes | None:
        return Path(job[name]).read_bytes() if name in job else None

    credentials = grpc.ssl_channel_credentials(read("ca"), read("key"), read("cert"))
    return grpc.secure_channel(job["address"], credentials, options)


def metadata(job: dict[str, Any]) -> list[tuple[str, str]]:
    return [("authorization", value) for value in job.get("authorization", [])]


def failure(error: Any) -> dict[str, Any]:
    trailers = dict(error.trailing_metadata() or ())
    return {
        "code": error.code().name,
        "message": error.details(),
        "details": trailers.get("grpc-status-details-bin", b"").hex(),
        "pushback": trailers.get("grpc-retry-pushback-ms"),
    }


def version(job: dict[str, Any], opened: grpc.Channel) -> Any:
    call = opened.unary_unary(job.get("path", VERSION))
    call(b"", timeout=TIMEOUT, metadata=metadata(job))
    return {"code": "OK"}


def versions(job: dict[str, Any], opened: grpc.Channel) -> Any:
    """Make the calls in `calls` one after another."""
    answers = []
    for each in job["calls"]:
        try:
            answers.append(version(each, opened))
        except grpc.RpcError as error:
            answers.append(failure(error))
    return answers


def explain(job: dict[str, Any], opened: grpc.Channel) -> Any:
    """Read a failure's details by grpcio's own reader, which checks them against the status code and message."""
    try:
        return version(job, opened)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert status is not None
        kinds = [each.TypeName() for each in status.details]
        return {**failure(error), "kinds": kinds, "values": [each.value.hex() for each in status.details]}


def check(job: dict[str, Any], opened: grpc.Channel) -> Any:
    request = health_pb2.HealthCheckRequest(service=job.get("service", ""))
    reply = health_pb2_grpc.HealthStub(opened).Check(request, timeout=TIMEOUT)
    return {"code": "OK", "status": health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)}


def watch(job: dict[str, Any], opened: grpc.Channel) -> Any:
    """Print "watching" when the first status has arrived; answer when the call has ended."""
    seen = []
    request = health_pb2.HealthCheckRequest(service=job.get("service", ""))
    try:
        for reply in health_pb2_grpc.HealthStub(opened).Watch(request, timeout=TIMEOUT):
            seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
            if len(seen) == 1:
                print("watching", flush=True)
    except grpc.RpcError as error:
        return {**failure(error), "seen": seen}
    return {"code": "OK", "seen": seen}


def reflect(job: dict[str, Any], opened: grpc.Channel) -> Any:
    """Call v1alpha by grpcio's own stub, or v1, which has the same messages under another path."""
    pb = reflection_pb2
    requests = [
        pb.ServerReflectionRequest(list_services=""),
        *(pb.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in job["symbols"]),
        *(pb.ServerReflectionRequest(file_by_filename=name) for name in job["files"]),
    ]
    if job["version"] == "v1alpha":
        call = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo
    else:
        call = opened.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
    replies = list(call(iter(requests), timeout=TIMEOUT, metadata=metadata(job)))
    files = []
    for reply in replies[1:]:
        named = [FileDescriptorProto.FromString(each) for each in reply.file_descriptor_response.file_descriptor_proto]
        files.append([each.name for each in named] or reply.error_response.error_code)
    return {"code": "OK", "services": [each.name for each in replies[0].list_services_response.service], "files": files}


def fill(job: dict[str, Any], opened: grpc.Channel) -> Any:
    """Open sessions and hold them while another call is made."""
    stream = opened.stream_stream("/remotemedia.v1.StreamingPipelineService/StreamPipeline")
    held, release = [], threading.Event()

    def requests(opening: bytes) -> Any:
        yield opening
        release.wait()

    outcomes: list[Any] = []
    for _ in range(job["sessions"]):
        call = stream(requests(bytes.fromhex(job["opening"])), timeout=TIMEOUT, metadata=metadata(job))
        try:
            next(call)
            held.append(call)
            outcomes.append({"code": "OK"})
        except grpc.RpcError as error:
            outcomes.append(failure(error))
    release.set()
    return {"outcomes": outcomes}


def main() -> None:
    if len(sys.argv) > 1:
        return
    job = json.loads(sys.stdin.read())
    with channel(job) as opened:
        try:
            answer = globals()[job["do"]](job, opened)
        except grpc.RpcError as error:
            answer = failure(error)
    print(json.dumps(answer), flush=True)
    os._exit(0)  # a normal exit may wait for ever for a lock that a dead grpcio thread holds


if __name__ == "__main__":
    main()
