"""The engine: settings and services that all sessions of a process share."""

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
    """Settings and services that all sessions of a process share.

    A server makes one engine. Without one, `engine.session.open_session` makes an engine for its session alone.

    Attributes:
      registry: Node type → class, of the types that manifests may name.
      maxima: Upper bounds of the limits that clients ask for.
      caps: Limits on the size of a manifest.
      machine: Resources that nodes' capabilities are checked against.
      sweep: Clock of the sessions' time limits; the engine's owner starts `sweep.run` once.
      threads: Threads that run nodes with `placement = "thread"`.
      watchdog: Reports inline nodes that hold the event loop.
      loaded: Node classes with an extra that were built before, so that their libraries are already loaded.
    """

    registry: Registry
    maxima: ResourceLimits = DEFAULT_MAXIMA
    caps: Caps = attrs.field(factory=Caps)
    machine: Machine = attrs.field(factory=probe_machine)
    sweep: Sweep = attrs.field(factory=Sweep)
    threads: Threads = attrs.field(factory=Threads)
    watchdog: Watchdog = attrs.field(factory=Watchdog)
    loaded: set[type[AnyNode]] = attrs.field(factory=set, init=False)
