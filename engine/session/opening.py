"""Open a session: check its manifest, build its nodes, run them, and end everything in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from engine.contexts import acyclic, unwrapped_nursery
from engine.errors import AtCapacity, InternalFault
from engine.limits import ResourceLimits, SessionOptions, clamp_options
from engine.manifest import Manifest
from engine.manifest.checker import make_plan
from engine.manifest.plan import Plan, Registry
from engine.runtime.engine import Engine
from engine.session.session import Session

__all__ = ["open_session"]


@acyclic
@asynccontextmanager
async def open_session(
    manifest: Manifest,
    *,
    registry: Registry | None = None,
    engine: Engine | None = None,
    limits: ResourceLimits | None = None,
    options: SessionOptions | None = None,
) -> AsyncIterator[Session]:
    """Check a manifest, build its nodes, and run them until the block is left.

    Args:
      manifest: The pipeline.
      registry: Node type → class; needed if no engine is given.
      engine: The engine that the session shares with others; its owner runs `engine.sweep.run`. If not given, the
        session makes its own.
      limits: Requested limits, clamped to the engine's maxima.
      options: Credits, reordering, overflow and metrics.

    Raises:
      ManifestInvalid: the manifest has faults; the error lists all of them.
      AtCapacity: too many abandoned thread calls are still running.
    """
    own = engine is None
    engine = engine or Engine(registry or {})
    if engine.threads.is_full:
        raise AtCapacity(f"{engine.threads.straggling} abandoned calls are still running in threads")
    session = await _make_session(manifest, engine, limits, options)
    try:
        async with unwrapped_nursery() as nursery:
            if own:
                nursery.start_soon(engine.sweep.run)
            engine.sweep.add(session)
            nursery.start_soon(session.pipeline.run)
            try:
                yield session
            finally:
                nursery.cancel_scope.cancel()
    except BaseException:
        with suppress(InternalFault):  # the first error says more
            _end(session, engine)
        raise
    _end(session, engine)


async def _make_session(
    manifest: Manifest, engine: Engine, limits: ResourceLimits | None, options: SessionOptions | None
) -> Session:
    plan = await _plan(manifest, engine)
    try:
        granted = (limits or ResourceLimits()).clamped(engine.maxima)
        return Session(plan, engine, granted, clamp_options(options or SessionOptions()))
    except BaseException:
        plan.close()
        raise


def _end(session: Session, engine: Engine) -> None:
    """Close a session whose tasks have ended, check its accounts, and free it.

    Raises:
      InternalFault: the accounts do not balance.
    """
    engine.sweep.remove(session)
    session.pipeline.close()
    try:
        session.check_balance()
    finally:
        session.release()


async def _plan(manifest: Manifest, engine: Engine) -> Plan:
    """Check a whole manifest, and build its nodes.

    Plans are made on the event loop, except when a node class may import a heavy library for the first time: then in a
    thread (SciPy takes up to a second).

    Raises:
      ManifestInvalid: the manifest has faults; the error lists all of them.
    """
    classes = {engine.registry.get(spec.node_type) for spec in manifest.nodes}
    loading = {each for each in classes if each is not None and each.extra} - engine.loaded
    make = partial(make_plan, manifest, engine.registry, caps=engine.caps, machine=engine.machine)
    if not loading:
        return make()
    plan = await trio.to_thread.run_sync(make)
    engine.loaded.update(loading)
    return plan
