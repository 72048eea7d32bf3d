"""Handlers of the pipeline RPCs: they decode, call the engine and encode; `relay` does the work of a streaming call."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import traceback
from collections.abc import Mapping
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
from engine.manifest import Manifest
from engine.messages import Result
from engine.runtime.engine import Engine
from engine.session import Session, open_session
from engine.session.oneshot import execute
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.codec.audio import decode_audio
from transport.codec.errors import end_status, in_unary_status
from transport.codec.events import encode_error, encode_ready
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.codec.requests import decode_data, decode_limits, decode_manifest, decode_options, parse
from transport.codec.results import encode_execute_response
from transport.grpc.status import StatusCode, StatusError
from transport.server.call import Call, Handler, unary
from transport.service.relay import Reader, Sender
from transport.service.versions import COMPATIBLE, PROTOCOL, check_client, is_compatible, runtime_version

__all__ = ["handlers"]

_log = logging.getLogger(f"headrace.{__name__}")


def handlers(engine: Engine, *, debug_errors: bool = False, idle_timeout_s: float = math.inf) -> Mapping[str, Handler]:
    """Return the handlers of the pipeline RPCs by path.

    Args:
      engine: Engine that all sessions share; its sweep must be running.
      debug_errors: Send stack traces to clients.
      idle_timeout_s: Time without a request after which a session is closed with an error; also the longest wait for
        the manifest. 0 is no limit.
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
        """Answer with the service's versions and node types, and whether the client is compatible."""
        try:
            client = parse(execution.VersionRequest(), request).client_version
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
            wire = parse(execution.ExecuteRequest(), request)
            check_client(wire.client_version)
            manifest = decode_manifest(wire.manifest)
            audio = {node: decode_audio(buffer) for node, buffer in wire.audio_inputs.items()}
            data = {node: decode_data(text) for node, text in wire.data_inputs.items()}
            parse_ms = (perf_counter() - began) * 1e3
            limits = decode_limits(wire.resource_limits)
            outcome = await execute(manifest, audio, data, engine=self._engine, limits=limits, parse_ms=parse_ms)
            return encode_execute_response(outcome).SerializeToString()
        except Exception as error:
            if _ends_the_call(error):
                raise
            reported = self._reported(error)
            _forget_frames(error)
            return self._answer_with(reported)

    def _answer_with(self, error: EngineError) -> bytes:
        if in_unary_status(error):
            raise StatusError.of(end_status(error, debug=self._debug)) from None
        return encode_execute_response(error, debug=self._debug).SerializeToString()

    async def stream_pipeline(self, call: Call) -> None:
        """Run a session over a bidirectional stream."""
        try:
            failure = await self._run_session(call)
        except Exception as error:
            if _ends_the_call(error):
                raise
            await self._end_with(call, self._reported(error))
        else:
            if failure is not None:
                raise StatusError.of(end_status(failure, debug=self._debug))

    async def _end_with(self, call: Call, error: EngineError) -> None:
        if not in_unary_status(error):
            await call.send(encode_error(error, debug=self._debug).SerializeToString())
        raise StatusError.of(end_status(error, debug=self._debug)) from None

    async def _run_session(self, call: Call) -> EngineError | None:
        """Open a session and relay it to its end.

        Returns:
          The session's failure, already sent in band; None if it ended well.

        Raises:
          EngineError: the session could not be opened.
        """
        manifest, options = await self._read_first(call)
        check_client(options.client_version)
        async with open_session(
            manifest,
            engine=self._engine,
            limits=decode_limits(options.resource_limits),
            options=decode_options(options),
        ) as session:
            try:
                await call.send(encode_ready(session.ready).SerializeToString())
                await self._relay(call, session)
                return session.failure
            finally:
                if session.failure is not None:
                    _forget_frames(session.failure)

    def _reported(self, error: Exception) -> EngineError:
        """Return the error to report for an exception: an engine error as it is, a bug as INTERNAL."""
        if isinstance(error, EngineError) and not isinstance(error, InternalFault):
            return error
        _log.error("bug in the service", exc_info=error)
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
        request = parse(streaming.StreamRequest(), data)
        what = request.WhichOneof("request")
        if what != "manifest":
            raise ProtocolMisuse(f"the first message must have a manifest, got {what or 'an empty request'}")
        return decode_manifest(request.manifest), request.options

    async def _relay(self, call: Call, session: Session) -> None:
        async with trio.open_nursery() as nursery:

            def close(reason: EngineError) -> None:
                nursery.start_soon(_close_for, session, reason)

            with trio.CancelScope() as sending:
                reader = Reader(call, session, sending, close, self._idle_timeout_s)
                nursery.start_soon(reader.run)
                call.on_close = close
                self._engine.sweep.add(reader)
                try:
                    await Sender(call, session, debug=self._debug).run()
                finally:
                    call.on_close = call.on_arrival = None
                    session.show_to(None)
                    self._engine.sweep.remove(reader)
                    nursery.cancel_scope.cancel()  # left to trio, the end would keep an error in a reference cycle
            if sending.cancelled_caught:
                raise StatusError(StatusCode.CANCELLED, "cancelled; the client did not read the final metrics in time")


def _ends_the_call(error: Exception) -> bool:
    """Return True if the exception only says that the client has gone, or already carries the call's status."""
    causes = leaves(ExceptionGroup("", [error]))
    return all(isinstance(cause, (StatusError, trio.BrokenResourceError)) for cause in causes)


def _forget_frames(failure: Exception) -> None:
    """Drop an error's traceback and causes, whose frames hold the session that holds it; their text is kept already."""
    failure.__traceback__ = failure.__cause__ = failure.__context__ = None


async def _close_for(session: Session, reason: EngineError) -> None:
    with contextlib.suppress(SessionClosed):  # it has ended by itself
        await session.close_for(reason)


def _build_timestamp() -> str:
    """Return the build time in ISO 8601: SOURCE_DATE_EPOCH if set, else the time of this module's file."""
    made = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(made) if made.isdecimal() else int(os.path.getmtime(__file__))
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
