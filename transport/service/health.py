"""`grpc.health.v1`: how the server and each of its services are, asked or watched.

Rules kept here:
- A watcher is told at once, and of every change that lasts until it can be told; it never holds anybody up.
- None of this needs a token, so the number of watchers is bounded, and how long a question may take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import trio
from google.protobuf.message import DecodeError

from protos import health_pb2 as pb
from transport.grpc.status import StatusCode, StatusError
from transport.server.call import Call, Handler

__all__ = ["HEALTH_SERVICE", "Health"]

HEALTH_SERVICE = "grpc.health.v1.Health"
MAX_WATCHERS = 1000
REQUEST_TIMEOUT_S = 10.0

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """What is told of each service; "", the server as a whole, is always among them.

    Args:
      services: Their full names; all are serving until `shut_down`.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._services = frozenset(("", *services))
        self._serving = True
        self._watchers = 0
        self._changes = trio.lowlevel.ParkingLot()

    def shut_down(self) -> None:
        """Nothing serves any more."""
        self._serving = False
        self._changes.unpark_all()

    def handlers(self) -> Mapping[str, Handler]:
        """By path; none of them needs a token."""
        return {f"/{HEALTH_SERVICE}/Check": self._check, f"/{HEALTH_SERVICE}/Watch": self._watch}

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus.ValueType:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING

    async def _check(self, call: Call) -> None:
        service = await _asked(call)
        status = self._status(service)
        if status == _SERVICE_UNKNOWN:
            raise StatusError(StatusCode.NOT_FOUND, f"no service {service[:200]!r}")
        await call.send(pb.HealthCheckResponse(status=status).SerializeToString())

    async def _watch(self, call: Call) -> None:
        service = await _asked(call)
        if self._watchers >= MAX_WATCHERS:
            raise StatusError(StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} are watching already")
        self._watchers += 1
        try:
            await self._tell_changes(call, service)
        finally:
            self._watchers -= 1

    async def _tell_changes(self, call: Call, service: str) -> None:
        told: pb.HealthCheckResponse.ServingStatus.ValueType | None = None
        while True:
            status = self._status(service)
            if status == told:
                await self._changes.park()
                continue
            await call.send(pb.HealthCheckResponse(status=status).SerializeToString())
            told = status


async def _asked(call: Call) -> str:
    """Which service the one message of a request is about."""
    request = None
    with trio.move_on_after(REQUEST_TIMEOUT_S) as scope:
        request = await call.receive()
    if request is None:
        code = StatusCode.DEADLINE_EXCEEDED if scope.cancelled_caught else StatusCode.INTERNAL
        raise StatusError(code, "the request has no message")
    try:
        return pb.HealthCheckRequest.FromString(request).service
    except DecodeError:
        raise StatusError(StatusCode.INVALID_ARGUMENT, "not a HealthCheckRequest") from None
