"""Plans are made on the event loop; but one for which a library may have to be loaded, in a thread.

Loading one takes up to a second (SciPy), in which no other session would get its turn.
"""

from __future__ import annotations

from functools import partial

import trio

from engine.graph import Plan, make_plan
from engine.host import Engine
from engine.manifest import Manifest

__all__ = ["plan_session"]


async def plan_session(manifest: Manifest, engine: Engine) -> Plan:
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
