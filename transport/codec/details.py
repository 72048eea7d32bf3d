"""What a status carries of an error in `grpc-status-details-bin`: a `google.rpc.Status` with our `ErrorResponse` in it.

Rules kept here:
- The code and the message in it are those of the status itself, as readers of other makes insist on.
- It is cut to what every client takes. In band an `ErrorResponse` is whole.
- What a client reads is accepted only if it is well formed, and never an exception.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from protos import common_pb2 as pb
from transport.grpc.status import StatusCode

__all__ = ["MAX_DETAILS_BYTES", "pack", "unpack"]

MAX_DETAILS_BYTES = 4096
"""Clients take 8 KiB of trailers, base64 and all."""


def pack(code: StatusCode, message: str, response: pb.ErrorResponse) -> bytes:
    """Encode it, leaving out what is long: first the stack trace, then the context, then the message's end.

    Args:
      code: Of the status.
      message: The same, as it is sent.
      response: What it is about; is shortened.
    """
    for name in ("stack_trace", "context"):
        if len(packed := _packed(code, message, response)) <= MAX_DETAILS_BYTES:
            return packed
        response.ClearField(name)
    if (excess := len(_packed(code, message, response)) - MAX_DETAILS_BYTES) > 0:
        kept = response.message.encode()[: -excess - 4]
        response.message = kept.decode(errors="ignore") + "…"
    return _packed(code, message, response)


def _packed(code: StatusCode, message: str, response: pb.ErrorResponse) -> bytes:
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(response)
    packed: bytes = status.SerializeToString()
    return packed


def unpack(details: bytes, code: StatusCode) -> pb.ErrorResponse | None:
    """The service's own words about a call that ended with this code; None where there are none."""
    response = pb.ErrorResponse()
    try:
        status = status_pb2.Status.FromString(details)
        found = status.code == code and any(each.Unpack(response) for each in status.details)
    except DecodeError:
        return None
    return response if found and response.error_type else None
