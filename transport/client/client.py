"""A client of the service, on the same driver as the server.

    async with connect("127.0.0.1:50051") as client:
        async with client.stream(manifest) as session:
            await session.send(Chunk(audio, sequence=0))
            await session.close()
            async for event in session:
                ...

A `RemoteSession` is used like an `engine.session.Session`, except that its `cancel` is awaited and its `receive` raises
at the end of a failed session. A `RemoteError` is reported by the service. An `RpcError` comes from the transport (no
server, lost connection, passed deadline), with a class for each status in `transport.client.errors`. Every call takes a
timeout in seconds. For a client that reconnects, see `transport.reconnect`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import trio
from google.protobuf.message import DecodeError, Message

from engine.contexts import acyclic
from engine.errors import ChunkRefused
from engine.limits import ResourceLimits, SessionOptions
from engine.manifest import Manifest
from engine.messages import Chunk, Ready, Result
from nodes.contract import Audio, Data
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.client.channel import Channel, ClientCall, channel_to
from transport.client.dial import parse_target
from transport.client.errors import pushback_ms, rpc_error
from transport.codec.errors import RemoteError, decode_remote_error
from transport.codec.events import Event, decode_event, decode_ready
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.codec.requests import encode_chunk, encode_control, encode_execute_request, encode_open
from transport.codec.results import decode_execute_response
from transport.grpc.limits import Limits
from transport.grpc.status import RpcError, StatusCode
from transport.grpc.tls import ClientTls

__all__ = ["Client", "ClientTls", "Event", "RemoteError", "RemoteSession", "RpcError", "Version", "connect"]

DEFAULT_TIMEOUT = 60.0

M = TypeVar("M", bound=Message)

_Command = streaming.StreamControl
_OVER = (trio.ClosedResourceError, trio.BrokenResourceError, RpcError)  # raised by sends on a call that is over


@attrs.frozen
class Version:
    """Versions and node types of a service.

    Attributes:
      compatible: True if the service serves clients of the version asked about.
      message: Reason if it does not.
      protocol: Protocol version, such as "v1".
      runtime: Version of the engine.
      node_types: Node types that manifests may use.
      protocols: Protocol versions that the service supports.
      build: Build time in ISO 8601.
    """

    compatible: bool
    message: str
    protocol: str
    runtime: str
    node_types: tuple[str, ...]
    protocols: tuple[str, ...]
    build: str


@acyclic
@asynccontextmanager
async def connect(
    address: str,
    *,
    tls: ClientTls | None = None,
    token: str = "",
    encoding: str | None = None,
    timeout_s: float = 10.0,
    limits: Limits | None = None,
) -> AsyncIterator[Client]:
    """Connect to a service.

    Args:
      address: Address of the service, "host:port" or "unix:/path".
      tls: TLS of the connection; None for plain text.
      token: Token sent with every call.
      encoding: Compression of requests, "gzip" or "deflate"; pays off on slow links only.
      timeout_s: Time limit for connecting.
      limits: Memory and time limits of the connection, such as how long a silent server is tolerated.

    Raises:
      Unavailable: no gRPC server answers within `timeout_s` seconds.
      BadTlsFiles: the certificates cannot be used.
      ValueError: the address is malformed.
    """
    target = parse_target(address)
    async with channel_to(target, tls=tls, token=token, connect_timeout_s=timeout_s, limits=limits) as channel:
        yield Client(channel, encoding)


class Client:
    """Calls on one connection, any number at a time."""

    def __init__(self, channel: Channel, encoding: str | None = None) -> None:
        self._channel = channel
        self._encoding = encoding

    @property
    def is_unavailable(self) -> bool:
        """True if no new call can start, because the connection is lost or the server is shutting down."""
        return bool(self._channel.unavailable_reason)

    async def wait_unused(self) -> None:
        """Wait until no call is open."""
        await self._channel.wait_unused()

    async def get_version(self, client_version: str = "v1", *, timeout_s: float = 10.0) -> Version:
        """Ask for the service's versions and node types, and whether it serves clients of this version."""
        reply = execution.VersionResponse()
        request = execution.VersionRequest(client_version=client_version)
        await self._unary("GetVersion", request.SerializeToString(), reply, timeout_s)
        info = reply.version_info
        return Version(
            reply.compatible,
            reply.compatibility_message,
            info.protocol_version,
            info.runtime_version,
            tuple(info.supported_node_types),
            tuple(info.supported_protocols),
            info.build_timestamp,
        )

    async def execute(
        self,
        manifest: Manifest,
        audio: Mapping[str, Audio] | None = None,
        data: Mapping[str, Data] | None = None,
        *,
        limits: ResourceLimits | None = None,
        timeout_s: float = DEFAULT_TIMEOUT,
    ) -> Result:
        """Run a pipeline over whole inputs, keyed by source id.

        Raises:
          RemoteError: the service answers with an error.
          RpcError: the transport failed, or the deadline has passed.
        """
        request = encode_execute_request(manifest, audio or {}, data or {}, limits or ResourceLimits())
        reply = execution.ExecuteResponse()
        await self._unary("ExecutePipeline", request, reply, timeout_s)
        try:
            return decode_execute_response(reply)
        except ChunkRefused as error:
            raise rpc_error(StatusCode.INTERNAL, f"the server sent invalid audio: {error}") from None

    async def _unary(self, method: str, request: bytes, reply: Message, timeout_s: float) -> None:
        path = f"/{EXECUTION_SERVICE}/{method}"
        async with self._channel.call(path, timeout_s=timeout_s, encoding=self._encoding) as call:
            with contextlib.suppress(*_OVER):  # the server has answered already
                await call.send(request)
                call.half_close()
            try:
                data = await call.receive()
                if data is None:
                    raise rpc_error(StatusCode.INTERNAL, "the server sent no answer")
                _parse(reply, data)
                await call.receive()
            except RpcError as error:
                raise _service_error(error) from None

    @acyclic
    @asynccontextmanager
    async def stream(
        self,
        manifest: Manifest,
        *,
        limits: ResourceLimits | None = None,
        options: SessionOptions | None = None,
        timeout_s: float | None = None,
        ready_timeout_s: float = 30.0,
    ) -> AsyncIterator[RemoteSession]:
        """Open a session; leaving the block before the session's end cancels it on the server.

        Args:
          manifest: The pipeline.
          limits: Limits to ask for; the service clamps them.
          options: Credits, reordering, overflow and metrics.
          timeout_s: Time limit of the whole session; None is no limit.
          ready_timeout_s: Time limit until the service reports the session ready.

        Raises:
          RemoteError: the service refuses the session, for example for faults in its manifest.
          RpcError: the transport failed, or a deadline has passed.
        """
        opening = encode_open(manifest, limits or ResourceLimits(), options or SessionOptions())
        path = f"/{STREAMING_SERVICE}/StreamPipeline"
        async with self._channel.call(path, timeout_s=timeout_s, encoding=self._encoding) as call:
            session = RemoteSession(call)
            with trio.move_on_after(ready_timeout_s) as waiting:
                await session.open(opening)
            if waiting.cancelled_caught:
                raise rpc_error(StatusCode.DEADLINE_EXCEEDED, f"the session was not ready within {ready_timeout_s:g} s")
            yield session


class RemoteSession:
    """A session on a server: chunks in, events out.

    Attributes:
      ready: The service's first answer: session id, delay and credits.
    """

    ready: Ready

    def __init__(self, call: ClientCall) -> None:
        self._call = call
        self._sending = trio.Lock()

    async def open(self, opening: bytes) -> None:
        """Send the manifest and wait until the session is ready; called by `Client.stream`."""
        await self._send(opening)
        while True:
            response = await self._receive()
            if response is None:
                raise rpc_error(StatusCode.INTERNAL, "the server ended the session before it was ready")
            if response.WhichOneof("response") == "ready":
                self.ready = decode_ready(response.ready)
                return

    async def send(self, chunk: Chunk) -> None:
        """Send a chunk; wait while the service takes no more, which is the backpressure.

        Several tasks may send; their chunks go out in the order of their calls. A send that is cancelled half-way ends
        the session, and so does a server that takes nothing for the write timeout; `receive` then raises the error.
        """
        await self._send(encode_chunk(chunk))

    async def flush(self) -> None:
        """Make every node emit its tail; the answer is a result marked `flush`."""
        await self._send(encode_control(_Command.COMMAND_FLUSH))

    async def close(self) -> None:
        """Flush, and send nothing more. The session ends when all results have been received."""
        await self._send(encode_control(_Command.COMMAND_CLOSE), last=True)

    async def cancel(self) -> None:
        """End the session at once; only the final metrics remain to be received."""
        await self._send(encode_control(_Command.COMMAND_CANCEL))

    async def receive(self) -> Event | None:
        """Return the next event; None once the session has ended without a failure.

        Raises:
          RemoteError: the session failed; the failure was also received as an event.
          RpcError: the connection was lost, or the deadline has passed.
        """
        while (response := await self._receive()) is not None:
            try:
                event = decode_event(response)
            except ChunkRefused as error:
                raise rpc_error(StatusCode.INTERNAL, f"the server sent invalid audio: {error}") from None
            if event is not None:
                return event
        return None

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over all events until the session ends."""
        while (event := await self.receive()) is not None:
            yield event

    async def _send(self, request: bytes, *, last: bool = False) -> None:
        async with self._sending:
            with contextlib.suppress(*_OVER):  # the session is over: `receive` raises the reason
                try:
                    await self._call.send(request)
                finally:
                    if self._call.cut_inside_message:  # the rest will never come: the server must not wait for it
                        self._call.cancel("a message was left unfinished")
                if last:
                    self._call.half_close()

    async def _receive(self) -> streaming.StreamResponse | None:
        try:
            data = await self._call.receive()
        except RpcError as error:
            raise _service_error(error) from None
        return None if data is None else _parse(streaming.StreamResponse(), data)


def _service_error(error: RpcError) -> Exception:
    """Return the service's own error, if the status carries one; else the given error."""
    return decode_remote_error(error.details, error.code, pushback_ms(error.status.metadata)) or error


def _parse(message: M, data: bytes) -> M:
    try:
        message.ParseFromString(data)
    except DecodeError:
        reason = f"the server's message cannot be parsed as {type(message).__name__}"
        raise rpc_error(StatusCode.INTERNAL, reason) from None
    return message
