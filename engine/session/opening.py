"""Open a session: check its manifest, build its nodes, run them, and end all of it in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from engine.errors import AtCapacity, InternalFault
from engine.limits import ResourceLimits, SessionOptions, clamp_options
from engine.manifest import Manifest
from engine.manifest.checker import make_plan
from engine.manifest.plan import Plan, Registry
from engine.runtime.engine import Engine
from engine.session.session import Session

__all__ = ["open_session"]


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
    plan = await _plan(manifest, engine)
    asked = limits or ResourceLimits()
    try:
        session = Session(plan, engine, asked.clamped(engine.maxima), clamp_options(options or SessionOptions()))
    except BaseException:
        plan.close()
        raise
    raised: Exception | None = None
    try:
        try:
            async with trio.open_nursery() as nursery:
                if own:
                    nursery.start_soon(engine.sweep.run)
                engine.sweep.add(session)
                nursery.start_soon(session.pipeline.run)
                try:
                    yield session
                except Exception as error:  # raised again below, so that the nursery does not wrap it in a group
                    raised = error
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            engine.sweep.remove(session)
            session.pipeline.close()
            try:
                session.check_balance()
            except InternalFault as fault:  # what was raised before, if anything was, tells more
                raised = raised or fault
            session.release()
        if raised is not None:
            raise raised
    finally:
        del raised  # its traceback has this frame: a cycle


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
