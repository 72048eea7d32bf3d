"""Error details in `grpc-status-details-bin`: a `google.rpc.Status` that holds our `ErrorResponse`.

Rules kept here:
- Its code and message repeat those of the call's status, because other gRPC libraries reject details that differ.
- The details are cut to a size that every client accepts. An `ErrorResponse` in band is never cut.
- Details that a client cannot parse are ignored; they raise nothing.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from protos import common_pb2 as pb
from transport.grpc.status import StatusCode

__all__ = ["MAX_DETAILS_BYTES", "pack", "unpack"]

MAX_DETAILS_BYTES = 4096
"""Size limit before base64: some clients accept no more than 8 KiB of trailers in all."""


def pack(code: StatusCode, message: str, response: pb.ErrorResponse) -> bytes:
    """Encode the details, shortened to fit: first without the stack trace, then the context, then the message's end.

    Args:
      code: The call's status code.
      message: The call's status message, as it is sent.
      response: The error; shortened in place.
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
    """Return the service's error for a call that ended with this code; None if the details hold none."""
    response = pb.ErrorResponse()
    try:
        status = status_pb2.Status.FromString(details)
        found = status.code == code and any(each.Unpack(response) for each in status.details)
    except DecodeError:
        return None
    return response if found and response.error_type else None
