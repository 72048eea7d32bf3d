"""Discovery of nodes that do not come with Headrace: installed ones, by their entry points, and those of single files.

The nodes found are added to a copy of the given registry; importing a module registers nothing. A plugin that cannot
be used is reported as a fault with its name; the others are still added.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeGuard

import attrs

from engine.errors import Fault
from engine.manifest.parameters import has_json_type, parameter_fields, parameter_types, type_name
from engine.manifest.plan import Registry
from nodes.contract import AnyNode, Join, Node

__all__ = ["GROUP", "Discovered", "PluginBroken", "discover", "load_file"]

GROUP = "headrace.nodes"
"""Entry-point group of nodes; the name of an entry is the node type, its value the class."""


class PluginBroken(Exception):
    """A plugin cannot be used; the message says why."""


@attrs.frozen
class Discovered:
    """Result of a discovery.

    Attributes:
      registry: Node type → class, of the given types and of those found.
      origins: Node type → entry point or file, of the types found.
      faults: Plugins that cannot be used; the path of each fault is the entry point or file.
    """

    registry: Registry
    origins: Mapping[str, str]
    faults: Sequence[Fault]


def discover(
    builtin: Registry, files: Iterable[Path] = (), installed: Iterable[EntryPoint] | None = None
) -> Discovered:
    """Add the installed nodes to a registry, then the nodes that files define.

    Args:
      builtin: Node type → class; a plugin cannot replace any of these.
      files: Python files; every public node class that a file defines is added under its own name.
      installed: Entry points to load; by default those of `GROUP` in this environment.
    """
    finding = _Finding(builtin)
    for entry in entry_points(group=GROUP) if installed is None else installed:
        finding.add(_origin(entry), partial(_load_entry, entry))
    for path in files:
        finding.add(str(path), partial(load_file, path))
    return Discovered(MappingProxyType(finding.registry), finding.origins, finding.faults)


class _Finding:
    """Nodes and faults found so far."""

    def __init__(self, builtin: Registry) -> None:
        self._builtin = builtin
        self.registry = dict(builtin)
        self.origins: dict[str, str] = {}
        self.faults: list[Fault] = []

    def add(self, origin: str, load: Callable[[], Mapping[str, type[AnyNode]]]) -> None:
        try:
            found = load()
        except PluginBroken as error:
            self.faults.append(Fault(origin, str(error)))
            return
        for node_type, node_class in found.items():
            if node_type in self.registry:
                holder = "comes with Headrace" if node_type in self._builtin else f"is from {self.origins[node_type]}"
                self.faults.append(Fault(origin, f"the name {node_type!r} is taken: it {holder}"))
            else:
                self.registry[node_type] = node_class
                self.origins[node_type] = origin


def _origin(entry: EntryPoint) -> str:
    package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
    return f"{entry.value}{package}"


def _load_entry(entry: EntryPoint) -> dict[str, type[AnyNode]]:
    with _as_plugin_broken():
        loaded = entry.load()
    if not _is_node(loaded):
        raise PluginBroken(f"{entry.name!r} must be a class that derives from Node or Join, got {loaded!r:.80}")
    _check(loaded)
    return {entry.name: loaded}


def load_file(path: Path) -> dict[str, type[AnyNode]]:
    """Return name → node class, in order, of the nodes that a file defines, except names that begin with "_".

    Raises:
      PluginBroken: the file cannot be read or imported, defines no node, or defines one that cannot be used.
    """
    module = _imported(path)
    found = {
        name: value
        for name, value in vars(module).items()
        if _is_node(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    if not found:
        raise PluginBroken("defines no class that derives from Node or Join of nodes.contract")
    for node_class in found.values():
        _check(node_class)
    return found


def _imported(path: Path) -> ModuleType:
    """Import a file as a separate module; it stays in `sys.modules`, where type hints are looked up."""
    name = f"headrace_nodes_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginBroken("is not a Python file: its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _as_plugin_broken():
            spec.loader.exec_module(module)
    except PluginBroken:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _as_plugin_broken() -> Iterator[None]:
    """Turn any error of a plugin's code during import, even `sys.exit`, into `PluginBroken` with the line at fault."""
    try:
        yield
    except OSError as error:
        raise PluginBroken(f"cannot be read: {error.strerror or error}") from error
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, SyntaxError) else f" ({Path(frame.filename).name}, line {frame.lineno})"
        raise PluginBroken(f"cannot be imported: {type(error).__name__}: {error}{where}") from error


def _is_node(value: object) -> TypeGuard[type[AnyNode]]:
    return isinstance(value, type) and issubclass(value, (Node, Join))


def _check(node_class: type[AnyNode]) -> None:
    """Check that a node class is complete, and that JSON can express its parameters.

    Raises:
      PluginBroken: it is not, or JSON cannot.
    """
    name = node_class.__name__
    is_attrs: bool = attrs.has(node_class)
    if not is_attrs:
        raise PluginBroken(f"{name} is not an attrs class: put @attrs.define above it")
    if node_class.process in (Node.process, Join.process):
        raise PluginBroken(f"{name} has no method `process`; if it is only a base class, begin its name with _")
    try:
        hints = parameter_types(node_class)
    except Exception as error:  # a hint may name anything
        raise PluginBroken(f"the type hints of {name} cannot be resolved: {error}") from error
    for parameter in parameter_fields(node_class):
        if not has_json_type(hint := hints.get(parameter, Any)):
            raise PluginBroken(
                f"{name}.{parameter} is {type_name(hint)}, which JSON cannot express: a parameter is int, float, bool,"
                " str, list[...], dict[str, ...], Literal[...] or a union of these; any other field needs init=False"
            )
