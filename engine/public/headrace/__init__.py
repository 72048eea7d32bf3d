"""Public names of Headrace: pipelines over live audio, in this process or on a server, and base classes for nodes.

    from headrace import BUILTIN, Audio, Chunk, connect, manifest_from_dict, open_session

These names are stable; the modules behind them may change. A name is imported when it is first used, so that
`import headrace` is quick and loads neither the nodes nor the server.

Nodes: `Audio` and `Data` travel from node to node. Derive from `Node`, or from `Join` to see several inputs together;
`parameter` declares a parameter, `Kind` names the kinds of item that a node takes and gives, `To` addresses one
downstream node, `InvalidInput` rejects an item, and `check_node` runs the conformance kit.

Pipelines: `Manifest`, with `load_manifest`, `manifest_from_dict`, `manifest_from_json` and `manifest_to_json`;
`Pipeline` builds one in Python; `BUILTIN` maps the node types that come with Headrace to their classes.

Sessions: `open_session` opens a `Session` in this process. `connect` and `reconnecting` reach a server; their `Client`
opens a `RemoteSession`, which is used in the same way. `ClientTls` secures the connection. `Chunk` goes in; `Result`,
`SessionMetrics` and errors come out. `ResourceLimits` and `SessionOptions` set bounds, and `Overflow` is the policy for
chunks beyond them.

Errors: `EngineError` is the base of all errors that a session reports; `RemoteError` is an error that a server
reported, `RpcError` an error of the connection.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headrace_startup import require_own_packages

require_own_packages()

if TYPE_CHECKING:
    from engine.errors import (
        AtCapacity,
        ChunkRefused,
        EngineError,
        ManifestInvalid,
        MemoryLimitExceeded,
        NodeFailed,
        NodeRefused,
        SamplesLimitExceeded,
        SessionClosed,
        TimeLimitExceeded,
    )
    from engine.limits import Overflow, ResourceLimits, SessionOptions
    from engine.manifest import (
        Manifest,
        Pipeline,
        load_manifest,
        manifest_from_dict,
        manifest_from_json,
        manifest_to_json,
    )
    from engine.messages import Chunk, Result, SessionMetrics
    from engine.session import Session, open_session
    from nodes.conformance import check_node
    from nodes.contract import Audio, Data, InvalidInput, Join, Kind, Node, To, parameter
    from nodes.registry import BUILTIN
    from transport.client import Client, ClientTls, RemoteError, RemoteSession, RpcError, connect, reconnecting

    __version__: str

__all__ = [
    "BUILTIN",
    "AtCapacity",
    "Audio",
    "Chunk",
    "ChunkRefused",
    "Client",
    "ClientTls",
    "Data",
    "EngineError",
    "InvalidInput",
    "Join",
    "Kind",
    "Manifest",
    "ManifestInvalid",
    "MemoryLimitExceeded",
    "Node",
    "NodeFailed",
    "NodeRefused",
    "Overflow",
    "Pipeline",
    "RemoteError",
    "RemoteSession",
    "ResourceLimits",
    "Result",
    "RpcError",
    "SamplesLimitExceeded",
    "Session",
    "SessionClosed",
    "SessionMetrics",
    "SessionOptions",
    "TimeLimitExceeded",
    "To",
    "__version__",
    "check_node",
    "connect",
    "load_manifest",
    "manifest_from_dict",
    "manifest_from_json",
    "manifest_to_json",
    "open_session",
    "parameter",
    "reconnecting",
]

_HOMES = {
    "engine.errors": (
        "AtCapacity", "ChunkRefused", "EngineError", "ManifestInvalid", "MemoryLimitExceeded", "NodeFailed",
        "NodeRefused", "SamplesLimitExceeded", "SessionClosed", "TimeLimitExceeded",
    ),
    "engine.limits": ("Overflow", "ResourceLimits", "SessionOptions"),
    "engine.manifest": (
        "Manifest", "Pipeline", "load_manifest", "manifest_from_dict", "manifest_from_json", "manifest_to_json",
    ),
    "engine.messages": ("Chunk", "Result", "SessionMetrics"),
    "engine.session": ("Session", "open_session"),
    "nodes.conformance": ("check_node",),
    "nodes.contract": ("Audio", "Data", "InvalidInput", "Join", "Kind", "Node", "To", "parameter"),
    "nodes.registry": ("BUILTIN",),
    "transport.client": ("Client", "ClientTls", "RemoteError", "RemoteSession", "RpcError", "connect", "reconnecting"),
}  # fmt: skip
"""Module → its public names; a test compares it with the imports above."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name == "__version__":
            from importlib.metadata import version

            value = version("headrace")
        elif name in _HOME_OF:
            value = getattr(importlib.import_module(_HOME_OF[name]), name)
        else:
            raise AttributeError(f"module 'headrace' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
