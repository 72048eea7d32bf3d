"""The running server: wire nodes, engine and transport together, and handle signals.

The server prints a line `listening on ADDRESS` for each address once it is ready to answer. SIGINT or SIGTERM drains
it: it takes no new calls, and running calls have `--drain-timeout` to end. Then sessions are closed, so that their
tails are delivered, and the remaining calls are cancelled. A second signal stops the server at once. Either way the
exit code is 0. SIGHUP reloads certificates and tokens. SIGUSR1 prints a line of JSON: connections, calls, sessions by
token name, refusals, and nodes that blocked the event loop.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import attrs
import trio

from engine.runtime.engine import Engine
from engine.runtime.placement import Threads
from engine.runtime.watchdog import Watchdog
from engine.serve import heap
from engine.serve.settings import Files, Settings
from transport.codec.methods import EXECUTION_SERVICE, SESSION_PATHS, STREAMING_SERVICE
from transport.server import Server, serve
from transport.server.access import AccessControl, AccessPolicy
from transport.service.health import Health
from transport.service.pipelines import handlers
from transport.service.reflection import Reflection

__all__ = ["run_server", "serve_until_signal"]

_log = logging.getLogger(f"headrace.{__name__}")


def _engine(settings: Settings) -> Engine:
    return Engine(
        settings.registry,
        maxima=settings.maxima,
        threads=Threads(settings.worker_threads, settings.max_abandoned_calls),
        watchdog=Watchdog(settings.watchdog_ms),
    )


def _access_policy(settings: Settings, health: Health) -> AccessPolicy:
    return AccessPolicy(
        open_paths=frozenset(health.handlers()),
        session_paths=SESSION_PATHS,
        max_sessions=settings.max_sessions,
        max_sessions_per_token=settings.max_sessions_per_token,
    )


async def run_server(
    settings: Settings,
    files: Files | None = None,
    engine: Engine | None = None,
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `Server.drain` or cancellation.

    Args:
      settings: Addresses, limits and everything else that the operator chose.
      files: The files that `settings` names; loaded here if not given.
      engine: An engine made for these settings; made here if not given.
      task_status: Receives the server once it is ready to answer.

    Raises:
      AddressInUse: another process listens on an address.
      AddressUnusable: no process can listen on an address.
      BadTlsFiles, BadTokenFile: a file cannot be used.
    """
    files = files or Files(settings)
    engine = engine or _engine(settings)
    health = Health((EXECUTION_SERVICE, STREAMING_SERVICE))
    service = handlers(engine, debug_errors=settings.debug_errors, idle_timeout_s=settings.session_idle_timeout_s)
    reflection = Reflection().handlers() if settings.reflection else {}
    with engine.watchdog.watching():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.sweep.run)
            await serve(
                {**service, **health.handlers(), **reflection},
                listen=settings.listen,
                reuse_port=settings.reuse_port,
                limits=settings.limits,
                access=AccessControl(_access_policy(settings, health), files.tokens),
                tls=files.tls,
                on_drain=health.shut_down,
                debug_errors=settings.debug_errors,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()


async def serve_until_signal(settings: Settings, files: Files) -> None:
    """Serve until a signal has stopped the server; the module's docstring lists the signals."""
    engine = _engine(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the receiver restores this on exit; a late signal must not kill us then
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1) as signals:
        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as serving:
                server: Server = await serving.start(run_server, settings, files, engine)
                heap.freeze()
                _warn_of_open_tokens(server, files)
                for listener in server.listeners:
                    print(f"listening on {listener.name}", flush=True)
                stop = serving.cancel_scope.cancel
                statistics = partial(_statistics, server, engine)
                watching.start_soon(_heed_signals, signals, server, files, statistics, settings.drain_timeout_s, stop)
            watching.cancel_scope.cancel()


async def _heed_signals(
    signals: AsyncIterator[int],
    server: Server,
    files: Files,
    statistics: Callable[[], dict[str, Any]],
    timeout_s: float,
    stop: Callable[[], None],
) -> None:
    draining = False
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            files.reload()
        elif number == signal.SIGUSR1:
            print(json.dumps(statistics()), flush=True)
        elif draining:
            _log.info("%s again: stopping at once", name)
            stop()
        else:
            draining = True
            _log.info("%s: draining %d calls, for at most %g s", name, server.open_calls, timeout_s)
            server.drain(timeout_s)


def _statistics(server: Server, engine: Engine) -> dict[str, Any]:
    return {
        "connections": len(server.connections),
        "calls": server.open_calls,
        **attrs.asdict(server.access.statistics()),
        "abandoned_calls": engine.threads.straggling,
        "event_loop_holds": engine.watchdog.figures(),
    }


def _warn_of_open_tokens(server: Server, files: Files) -> None:
    if files.tokens is None or files.tls is not None:
        return
    for listener in server.listeners:
        if not listener.is_local:
            _log.warning("tokens are sent to %s in the clear: use --tls-cert or a TLS proxy", listener.name)
