"""Pipeline manifests as clients send them: plain frozen types, made from Python dicts or JSON.

Only the shape is checked here, and all faults are reported together, each with its path. `engine.manifest.checker`
checks whether the pipeline is valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from engine.errors import Fault, ManifestInvalid
from engine.strict_json import BadJson, load_json

__all__ = [
    "MAX_MANIFEST_BYTES",
    "Capabilities",
    "Connection",
    "Cpu",
    "Gpu",
    "Manifest",
    "NodeSpec",
    "load_manifest",
    "manifest_from_dict",
    "manifest_from_json",
    "manifest_to_json",
]

MAX_MANIFEST_BYTES = 1 << 20
RUNTIME_HINTS = ("", "unspecified", "rustpython", "cpython", "cpython_wasm", "auto")


@attrs.frozen
class Gpu:
    """Request for a GPU of a type ("cuda", "rocm", "metal", or "" for any); checked only if `required`."""

    type: str = ""
    min_memory_gb: float = 0.0
    required: bool = False


@attrs.frozen
class Cpu:
    """Lowest number of cores (0 means any) and the architecture ("" means any)."""

    cores: int = 0
    arch: str = ""


@attrs.frozen
class Capabilities:
    """Requirements of a node on the machine."""

    gpu: Gpu | None = None
    cpu: Cpu | None = None
    memory_gb: float = 0.0


@attrs.frozen
class NodeSpec:
    """One requested node. `params` is a JSON object, or JSON text that has not been parsed yet."""

    id: str
    node_type: str
    params: Mapping[str, Any] | str = attrs.field(factory=dict)
    is_streaming: bool = False
    capabilities: Capabilities | None = None
    host: str = ""
    runtime_hint: str = ""
    is_output: bool = False


@attrs.frozen
class Connection:
    """An edge from node `source` to node `target`."""

    source: str
    target: str


@attrs.frozen
class Manifest:
    """A requested pipeline."""

    version: str
    nodes: tuple[NodeSpec, ...]
    connections: tuple[Connection, ...] = ()
    name: str = ""
    description: str = ""
    created_at: str = ""


class _Shape:
    """Reader of a dict's fields that notes each fault with its path and continues."""

    def __init__(self, value: Any, path: str, faults: list[Fault], known: str) -> None:
        self.path = path
        self.faults = faults
        self.value: Mapping[str, Any] = {}
        if isinstance(value, Mapping):
            self.value = value
            for key in value:
                if key not in known.split():
                    self.fault(str(key), f"unknown key; known are {', '.join(known.split())}")
        else:
            faults.append(Fault(path or "manifest", f"must be an object, got {type(value).__name__}"))

    def fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(f"{self.path}.{key}" if self.path else key, message))

    def get(self, key: str, kind: type | tuple[type, ...], default: Any, what: str) -> Any:
        value = self.value.get(key, default)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fault(key, f"must be {what}, got {value!r:.80}")
            return default
        return value

    def text(self, key: str) -> str:
        return str(self.get(key, str, "", "a string"))

    def flag(self, key: str) -> bool:
        return bool(self.get(key, bool, False, "true or false"))

    def number(self, key: str) -> float:
        value = self.get(key, (int, float), 0.0, "a number")
        if abs(value) > 1e300:
            self.fault(key, "must be a number of at most 1e300")
            return 0.0
        return float(value)

    def list(self, key: str) -> list[Any]:
        return list(self.get(key, (list, tuple), [], "a list"))

    def sub(self, key: str, known: str) -> _Shape | None:
        if self.value.get(key) is None:
            return None
        return _Shape(self.value[key], f"{self.path}.{key}" if self.path else key, self.faults, known)


def _capabilities(shape: _Shape | None) -> Capabilities | None:
    if shape is None:
        return None
    gpu = shape.sub("gpu", "type min_memory_gb required")
    cpu = shape.sub("cpu", "cores arch")
    return Capabilities(
        Gpu(gpu.text("type"), gpu.number("min_memory_gb"), gpu.flag("required")) if gpu else None,
        Cpu(int(cpu.get("cores", int, 0, "a whole number")), cpu.text("arch")) if cpu else None,
        shape.number("memory_gb"),
    )


def _node(value: Any, path: str, faults: list[Fault]) -> NodeSpec:
    known = "id node_type params is_streaming capabilities host runtime_hint is_output"
    shape = _Shape(value, path, faults, known)
    hint = shape.text("runtime_hint").lower().removeprefix("runtime_hint_")
    if hint not in RUNTIME_HINTS:
        shape.fault("runtime_hint", f"must be one of {', '.join(filter(None, RUNTIME_HINTS))}, got {hint!r}")
    return NodeSpec(
        id=shape.text("id"),
        node_type=shape.text("node_type"),
        params=shape.get("params", (Mapping, str), {}, "an object, or a string that holds one"),
        is_streaming=shape.flag("is_streaming"),
        capabilities=_capabilities(shape.sub("capabilities", "gpu cpu memory_gb")),
        host=shape.text("host"),
        runtime_hint="" if hint == "unspecified" else hint,
        is_output=shape.flag("is_output"),
    )


def manifest_from_dict(value: Any) -> Manifest:
    """Make a manifest from a dict, as parsed from JSON.

    Args:
      value: Dict with keys as in the wire messages: `version`, `metadata`, `nodes`, `connections` (`from`, `to`).
        `params` may be an object, or a string that holds one. `$schema` is for editors.

    Raises:
      ManifestInvalid: keys are unknown, or values have the wrong type; all such faults are listed.
    """
    faults: list[Fault] = []
    shape = _Shape(value, "", faults, "version metadata nodes connections $schema")
    shape.text("$schema")
    metadata = shape.sub("metadata", "name description created_at")
    nodes = [_node(node, f"nodes[{i}]", faults) for i, node in enumerate(shape.list("nodes"))]
    edges = [_Shape(edge, f"connections[{i}]", faults, "from to") for i, edge in enumerate(shape.list("connections"))]
    manifest = Manifest(
        shape.text("version"),
        tuple(nodes),
        tuple(Connection(edge.text("from"), edge.text("to")) for edge in edges),
        metadata.text("name") if metadata else "",
        metadata.text("description") if metadata else "",
        metadata.text("created_at") if metadata else "",
    )
    if faults:
        raise ManifestInvalid(faults)
    return manifest


def manifest_from_json(text: str) -> Manifest:
    """Make a manifest from JSON text.

    Raises:
      ManifestInvalid: the text is not JSON (the message has line and column), or does not have a manifest's shape.
    """
    try:
        value = load_json(text, max_bytes=MAX_MANIFEST_BYTES)
    except BadJson as error:
        raise ManifestInvalid([Fault("manifest", str(error))]) from None
    return manifest_from_dict(value)


def manifest_to_json(manifest: Manifest) -> str:
    """Return a manifest as JSON text without empty fields, from which `manifest_from_json` makes an equal one.

    Raises:
      ManifestInvalid: parameters cannot be encoded as JSON; all such faults are listed.
    """
    nodes: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for i, node in enumerate(manifest.nodes):
        nodes.append(_without_empty(attrs.asdict(node)))
        try:
            json.dumps(nodes[-1], allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            faults.append(Fault(f"nodes[{i}].params", f"cannot be encoded as JSON: {error}"))
    if faults:
        raise ManifestInvalid(faults)
    metadata = {"name": manifest.name, "description": manifest.description, "created_at": manifest.created_at}
    edges = [{"from": edge.source, "to": edge.target} for edge in manifest.connections]
    value = {"version": manifest.version, "metadata": metadata, "nodes": nodes, "connections": edges}
    return json.dumps(_without_empty(value), indent=2, ensure_ascii=False)


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Drop empty fields, recursively, but not inside `params`."""
    kept: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict) and key != "params":
            kept[key] = _without_empty(value)
        elif value:
            kept[key] = value
    return kept


def load_manifest(path: str | Path) -> Manifest:
    """Read a manifest from a JSON file in UTF-8.

    Raises:
      OSError: the file cannot be read.
      ManifestInvalid: as for `manifest_from_json`; or the file is not UTF-8, or too long.
    """
    with Path(path).open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        return manifest_from_json(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestInvalid([Fault("manifest", f"not UTF-8 at byte {error.start}")]) from None
