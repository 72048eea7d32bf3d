"""Open a session: check its manifest, build its nodes, run them, and end all of it in order."""

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
      engine: What many sessions share; its owner runs `engine.sweep.run`. Without one the session has its own.
      limits: What is asked for; clamped to the engine's maxima.
      options: Credits, reordering, overflow and metrics.

    Raises:
      ManifestInvalid: with all faults of the manifest.
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
    """Check a manifest whole, and build its nodes.

    A node whose class names an extra may load a library when it is the first of its class.

    Raises:
      ManifestInvalid: with all faults of the manifest.
    """
    classes = {engine.registry.get(spec.node_type) for spec in manifest.nodes}
    loading = {each for each in classes if each is not None and each.extra} - engine.loaded
    make = partial(make_plan, manifest, engine.registry, caps=engine.caps, machine=engine.machine)
    if not loading:
        return make()
    plan = await trio.to_thread.run_sync(make)
    engine.loaded.update(loading)
    return plan
