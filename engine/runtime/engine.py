"""What all sessions of one process share: the node registry, what is allowed, the sweep, threads and watchdog."""

from __future__ import annotations

import attrs

from engine.limits import DEFAULT_MAXIMA, ResourceLimits
from engine.manifest.capabilities import Machine, probe_machine
from engine.manifest.plan import Caps, Registry
from engine.runtime.placement import Threads
from engine.runtime.sweep import Sweep
from engine.runtime.watchdog import Watchdog
from nodes.contract import AnyNode

__all__ = ["Engine"]


@attrs.frozen(eq=False)
class Engine:
    """Shared by the sessions of a process; `engine.session.open_session` makes one of its own where none is given.

    Attributes:
      registry: Node type → class; what a manifest may name.
      maxima: What a client's limits are clamped to.
      caps: How large a manifest may be.
      machine: What nodes' capabilities are held against.
      sweep: A server starts `sweep.run` once, for all sessions.
      threads: Where nodes placed in threads run.
      watchdog: Notes inline nodes that hold the event loop.
      loaded: Node classes with an extra that have been built here, so that their libraries are loaded.
    """

    registry: Registry
    maxima: ResourceLimits = DEFAULT_MAXIMA
    caps: Caps = attrs.field(factory=Caps)
    machine: Machine = attrs.field(factory=probe_machine)
    sweep: Sweep = attrs.field(factory=Sweep)
    threads: Threads = attrs.field(factory=Threads)
    watchdog: Watchdog = attrs.field(factory=Watchdog)
    loaded: set[type[AnyNode]] = attrs.field(factory=set, init=False)
