"""One handler per RPC: relay between a call and a session, no logic of their own.

How a streaming call is relayed: one task reads requests and offers chunks to the session, one receives the session's
events and sends them. A request is acknowledged, which lets the client send more, when the session has taken it.
As long as neither has to wait, neither is woken: a chunk is done, and its result sent, in the turn of the task that
reads the connection.
While the reader waits for room it looks through what has arrived, within the stream's window, for a CANCEL, which
overtakes what is queued.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from itertools import islice
from time import perf_counter

import trio

from engine.errors import (
    EngineError,
    InternalFault,
    ProtocolMisuse,
    SessionClosed,
    TimeLimitExceeded,
    VersionNotSupported,
    leaves,
)
from engine.host import Engine
from engine.manifest import Manifest
from engine.oneshot import execute
from engine.packet import BadChunk, Chunk, Result, SessionMetrics
from engine.session import Event, Session, open_session
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport import codec
from transport.calls import Call, Handler, unary
from transport.events import MessageReceived
from transport.rpc_status import StatusCode, StatusError
from transport.status import end_status, in_unary_status
from transport.versions import COMPATIBLE, PROTOCOL, check_client, is_compatible, runtime_version

__all__ = ["EXECUTION_SERVICE", "SESSION_PATHS", "STREAMING_SERVICE", "handlers"]

log = logging.getLogger("headrace.transport.service")

EXECUTION_SERVICE = "remotemedia.v1.PipelineExecutionService"
STREAMING_SERVICE = "remotemedia.v1.StreamingPipelineService"

_Control = streaming.StreamControl
LAST_WORDS_SECONDS = 1.0
"""What a client has to take the final metrics in, after a CANCEL."""

AT_ONCE_SECONDS = 0.002
"""Chunks that came together are done at once for so long; then the sessions' tasks take their turns with others."""


SESSION_PATHS = frozenset({f"/{EXECUTION_SERVICE}/ExecutePipeline", f"/{STREAMING_SERVICE}/StreamPipeline"})
"""The RPCs that hold a session while they run."""


def handlers(engine: Engine, *, debug_errors: bool = False, idle_timeout_s: float = math.inf) -> Mapping[str, Handler]:
    """The service's RPCs, by path.

    Args:
      engine: what all sessions share; its sweep has to be running.
      debug_errors: send stack traces to clients.
      idle_timeout_s: a session to which nothing comes for so long is closed, with an error; so is a call without
        a first message ended.
    """
    service = _Service(engine, debug_errors, idle_timeout_s or math.inf)
    return {
        f"/{EXECUTION_SERVICE}/ExecutePipeline": unary(service.execute_pipeline),
        f"/{EXECUTION_SERVICE}/GetVersion": unary(service.get_version),
        f"/{STREAMING_SERVICE}/StreamPipeline": service.stream_pipeline,
    }


class _Service:
    def __init__(self, engine: Engine, debug: bool, idle_timeout_s: float) -> None:
        self._engine = engine
        self._debug = debug
        self._idle_timeout_s = idle_timeout_s

    async def get_version(self, request: bytes, call: Call) -> bytes:
        """Tell what this service is, and whether the client can talk to it."""
        try:
            client = codec.parse(execution.VersionRequest(), request).client_version
        except ProtocolMisuse as error:
            raise StatusError.of(end_status(error)) from None
        reply = execution.VersionResponse(compatible=is_compatible(client))
        try:
            check_client(client)
        except VersionNotSupported as error:
            reply.compatibility_message = error.message
        reply.version_info.protocol_version = PROTOCOL
        reply.version_info.runtime_version = runtime_version()
        reply.version_info.supported_node_types.extend(sorted(self._engine.registry))
        reply.version_info.supported_protocols.extend(COMPATIBLE)
        reply.version_info.build_timestamp = _build_timestamp()
        return reply.SerializeToString()

    async def execute_pipeline(self, request: bytes, call: Call) -> bytes:
        """Run a pipeline over whole inputs."""
        outcome: Result | EngineError
        began = perf_counter()
        try:
            wire = codec.parse(execution.ExecuteRequest(), request)
            check_client(wire.client_version)
            manifest = codec.decode_manifest(wire.manifest)
            audio = {node: codec.decode_audio(buffer) for node, buffer in wire.audio_inputs.items()}
            data = {node: codec.decode_data(text) for node, text in wire.data_inputs.items()}
            parse_ms = (perf_counter() - began) * 1e3
            limits = codec.decode_limits(wire.resource_limits)
            outcome = await execute(manifest, audio, data, engine=self._engine, limits=limits, parse_ms=parse_ms)
            return codec.encode_execute_response(outcome).SerializeToString()
        except Exception as error:
            told = self._told(error)
            if in_unary_status(told):
                raise StatusError.of(end_status(told, debug=self._debug)) from None
            return codec.encode_execute_response(told, debug=self._debug).SerializeToString()

    async def stream_pipeline(self, call: Call) -> None:
        """Run a session over a bidirectional stream."""
        try:
            failure = await self._run_session(call)
        except Exception as error:
            failure = self._told(error)
            if not in_unary_status(failure):
                await call.send(codec.encode_error(failure, debug=self._debug).SerializeToString())
        if failure is not None:
            raise StatusError.of(end_status(failure, debug=self._debug))

    async def _run_session(self, call: Call) -> EngineError | None:
        """Open a session and relay it to its end.

        Returns:
          What it failed with, which the client has been told in band.

        Raises:
          EngineError: there never was a session.
        """
        manifest, options = await self._read_first(call)
        check_client(options.client_version)
        async with open_session(
            manifest,
            engine=self._engine,
            limits=codec.decode_limits(options.resource_limits),
            options=codec.decode_options(options),
        ) as session:
            await call.send(codec.encode_ready(session.ready).SerializeToString())
            await self._relay(call, session)
            return session.failure

    def _told(self, error: Exception) -> EngineError:
        """What the client is told of an exception: the engine's own errors as they are, a bug as INTERNAL.

        What says no more than that the client has gone, or how the call shall end, is raised again.
        """
        causes = leaves(ExceptionGroup("", [error]))
        if all(isinstance(cause, (StatusError, trio.BrokenResourceError)) for cause in causes):
            raise error
        if isinstance(error, EngineError) and not isinstance(error, InternalFault):
            return error
        log.error("a bug in the service", exc_info=error)
        trace = "".join(traceback.format_exception(error))
        return InternalFault(repr(error) if self._debug else "internal error", stack_trace=trace)

    async def _read_first(self, call: Call) -> tuple[Manifest, streaming.StreamOptions]:
        data = None
        with trio.move_on_after(self._idle_timeout_s) as waiting:
            data = await call.receive()
        if waiting.cancelled_caught:
            raise TimeLimitExceeded(f"no manifest came within {self._idle_timeout_s:g} s")
        if data is None:
            raise ProtocolMisuse("the stream ended before a manifest came")
        request = codec.parse(streaming.StreamRequest(), data)
        what = request.WhichOneof("request")
        if what != "manifest":
            raise ProtocolMisuse(f"the first message must have a manifest, got {what or 'an empty request'}")
        return codec.decode_manifest(request.manifest), request.options

    async def _relay(self, call: Call, session: Session) -> None:
        async with trio.open_nursery() as nursery:

            def close(reason: EngineError) -> None:
                nursery.start_soon(_wind_up, session, reason)

            with trio.CancelScope() as sending:
                reader = _Reader(call, session, sending, close, self._idle_timeout_s)
                session.on_event = lambda event: self._send_now(call, session, event)
                nursery.start_soon(reader.run)
                call.on_close = close
                self._engine.sweep.add(reader)
                try:
                    await self._send_events(call, session)
                finally:
                    call.on_close = call.on_arrival = session.on_event = None
                    self._engine.sweep.remove(reader)
            nursery.cancel_scope.cancel()
            if sending.cancelled_caught:
                raise StatusError(StatusCode.CANCELLED, "cancelled; the final metrics were not read in time")

    async def _send_events(self, call: Call, session: Session) -> None:
        while (event := await session.receive()) is not None:
            if (message := self._encode(session, event)) is not None:
                await call.send(message)

    def _send_now(self, call: Call, session: Session, event: Event) -> bool:
        """Send an event if that needs no waiting: quicker than waking the task that does."""
        message = self._encode(session, event)
        try:
            return message is None or call.send_nowait(message)
        except trio.BrokenResourceError:
            return False  # for the task to find out

    def _encode(self, session: Session, event: Event) -> bytes | None:
        """An event's message; None for a result that cannot be told, which ends the session."""
        try:
            if isinstance(event, Result):
                return codec.encode_result(event, debug=self._debug).SerializeToString()
            if isinstance(event, SessionMetrics):
                return codec.encode_metrics(event).SerializeToString()
            return codec.encode_error(event, debug=self._debug).SerializeToString()
        except EngineError as error:
            session.spoil(error)
            return None


async def _wind_up(session: Session, reason: EngineError) -> None:
    with contextlib.suppress(SessionClosed):  # it came to an end by itself
        await session.wind_up(reason)


class _Reader:
    """Reads a streaming call's requests and does what they say to its session.

    Args:
      call: whose requests.
      session: what takes them.
      sending: in which events are sent; after a CANCEL the last of them have LAST_WORDS_SECONDS.
      close: called, with the reason, when nothing has come for `idle_timeout_s`.
      idle_timeout_s: on the clock of the sweep, which has to look after this.
    """

    def __init__(
        self,
        call: Call,
        session: Session,
        sending: trio.CancelScope,
        close: Callable[[EngineError], None],
        idle_timeout_s: float,
    ) -> None:
        self._call = call
        self._session = session
        self._sending = sending
        self._close = close
        self._idle_timeout_s = idle_timeout_s
        self._quiet_s = 0.0
        self._is_busy = False
        self._looked = 0
        self._bug: Exception | None = None
        call.on_arrival = self._arrived

    async def run(self) -> None:
        """Read until the client has sent its last, or the session has ended."""
        call, session = self._call, self._session
        try:
            while (message := await call.take()) is not None:
                if self._bug is not None:
                    raise self._bug
                self._looked = max(0, self._looked - 1)
                self._quiet_s, self._is_busy = 0.0, True
                await self._handle(message)
                self._is_busy = False
                call.acknowledge(message)
            await session.close()
        except SessionClosed:
            await self._drain()
        except ProtocolMisuse as error:
            session.fail(error)

    def tick(self, clock: float, step: float) -> None:
        """Close the session of a client that could send, and sends nothing; called by the sweep."""
        if self._is_busy or self._call.unread_messages or self._call.input_ended:
            return
        self._quiet_s += step
        if self._quiet_s >= self._idle_timeout_s:
            self._quiet_s = -math.inf
            self._close(TimeLimitExceeded(f"nothing came for {self._idle_timeout_s:g} s: the session was closed"))

    def _arrived(self) -> None:
        """Something has come: do at once what can be, if the task waits for just that."""
        if self._is_busy:
            self._session.wake()
            return
        try:
            while (message := self._call.next_unread()) is not None and self._takes_now(message):
                self._quiet_s = 0.0
                self._call.take_nowait()
                self._call.acknowledge(message)
        except (SessionClosed, ProtocolMisuse):
            pass  # nothing has been done: the task finds out
        except Exception as bug:  # the task's to raise: this one serves other calls too
            self._bug = bug

    def _takes_now(self, message: MessageReceived) -> bool:
        """Do what a message says if it is a chunk and there is room, unless what came with it has taken long."""
        began = perf_counter()
        if began - message.received_at > AT_ONCE_SECONDS:
            return False
        chunk = codec.decode_chunk(codec.parse(streaming.StreamRequest(), message.data), message.received_at, began)
        return chunk is not None and self._session.offer(chunk, at_once=True)

    async def _handle(self, message: MessageReceived) -> None:
        began = perf_counter()
        request = codec.parse(streaming.StreamRequest(), message.data)
        if (chunk := codec.decode_chunk(request, message.received_at, began)) is not None:
            await self._send(chunk)
        elif (what := request.WhichOneof("request")) == "control":
            await self._command(request.control.command)
        else:
            raise ProtocolMisuse(
                "a second manifest: a session has just one"
                if what == "manifest"
                else "an empty request: it must have a chunk or a control"
            )

    async def _command(self, command: int) -> None:
        session = self._session
        if command == _Control.COMMAND_CANCEL:
            self._cancel()
        elif command in (_Control.COMMAND_CLOSE, _Control.COMMAND_FLUSH):
            while not session.try_flush(final=command == _Control.COMMAND_CLOSE):
                await self._wait_room()
        else:
            raise ProtocolMisuse(f"control command {command} is unknown; known are CLOSE (1), CANCEL (2), FLUSH (3)")

    async def _send(self, chunk: Chunk | BadChunk) -> None:
        while not self._session.offer(chunk, at_once=True):
            await self._wait_room()

    async def _wait_room(self) -> None:
        """Wait until the session may have room, unless a CANCEL lies among what has arrived."""
        for data in islice(self._call.unread(), self._looked, None):
            self._looked += 1
            if _is_cancel(data):
                self._cancel()
                return
        await self._session.room()

    def _cancel(self) -> None:
        self._session.cancel()
        self._sending.deadline = trio.current_time() + LAST_WORDS_SECONDS

    async def _drain(self) -> None:
        """Take what the client still sends to a session that is over, so that its window does not stay shut."""
        while await self._call.receive() is not None:
            pass


def _is_cancel(data: bytes) -> bool:
    """Whether a request that has not been taken is a CANCEL; chunks are told by their size, unparsed."""
    if len(data) > 64:
        return False
    try:
        request = codec.parse(streaming.StreamRequest(), data)
    except ProtocolMisuse:
        return False
    return request.WhichOneof("request") == "control" and request.control.command == _Control.COMMAND_CANCEL


def _build_timestamp() -> str:
    """When this build was made: SOURCE_DATE_EPOCH if set, else the time of this module's file."""
    made = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(made) if made.isdecimal() else int(os.path.getmtime(__file__))
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
