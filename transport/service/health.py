"""`grpc.health.v1`: the health of the server and of each service, by request (Check) or by subscription (Watch).

Rules kept here:
- A watcher receives the status at once and again after every change. A slow one may miss changes that were undone in
  the meantime; it delays no other.
- Health needs no token, so the number of watchers and the wait for a request are bounded.
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
REQUEST_TIMEOUT_S = 10.0  # for the one message of a request

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Health of some services, and of the server as a whole under the name "".

    Args:
      services: Full names of the services; all are SERVING until `shut_down`.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._services = frozenset(("", *services))
        self._serving = True
        self._watchers = 0
        self._changes = trio.lowlevel.ParkingLot()

    def shut_down(self) -> None:
        """Change all services to NOT_SERVING and notify the watchers."""
        self._serving = False
        self._changes.unpark_all()

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by path; none of them needs a token."""
        return {f"/{HEALTH_SERVICE}/Check": self._check, f"/{HEALTH_SERVICE}/Watch": self._watch}

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus.ValueType:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING

    async def _check(self, call: Call) -> None:
        service = await _read_service(call)
        status = self._status(service)
        if status == _SERVICE_UNKNOWN:
            raise StatusError(StatusCode.NOT_FOUND, f"no service {service[:200]!r}")
        await call.send(pb.HealthCheckResponse(status=status).SerializeToString())

    async def _watch(self, call: Call) -> None:
        service = await _read_service(call)
        if self._watchers >= MAX_WATCHERS:
            reason = f"the server has reached its limit of {MAX_WATCHERS} health watches"
            raise StatusError(StatusCode.RESOURCE_EXHAUSTED, reason)
        self._watchers += 1
        try:
            await self._send_changes(call, service)
        finally:
            self._watchers -= 1

    async def _send_changes(self, call: Call, service: str) -> None:
        sent: pb.HealthCheckResponse.ServingStatus.ValueType | None = None
        while True:
            status = self._status(service)
            if status == sent:
                await self._changes.park()
                continue
            await call.send(pb.HealthCheckResponse(status=status).SerializeToString())
            sent = status


async def _read_service(call: Call) -> str:
    """Read the one message of a request and return the name of the service that it asks about."""
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
