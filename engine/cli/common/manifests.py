"""Manifests for the commands: read from a file, from standard input, or from this package."""

from __future__ import annotations

import sys
from importlib import resources

from engine.cli.common.failures import BadInput
from engine.errors import Fault, ManifestInvalid
from engine.manifest import MAX_MANIFEST_BYTES, Manifest, load_manifest, manifest_from_json

__all__ = ["DATA", "packaged_manifest", "read_manifest", "source_ids"]

DATA = resources.files("engine.cli") / "data"
"""Files that ship with the command line: the demo's speech, manifests and templates."""


def read_manifest(path: str) -> Manifest:
    """Read a JSON manifest from a file; "-" is standard input.

    Raises:
      BadInput: the file cannot be read.
      ManifestInvalid: the text is not a manifest in JSON; all faults are listed.
    """
    if path == "-":
        return _from_stdin()
    try:
        return load_manifest(path)
    except OSError as error:
        raise BadInput(f"cannot read the manifest {path}: {error.strerror}") from None


def _from_stdin() -> Manifest:
    raw = sys.stdin.buffer.read(MAX_MANIFEST_BYTES + 1)
    try:
        return manifest_from_json(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestInvalid([Fault("manifest", f"not UTF-8 at byte {error.start}")]) from None


def packaged_manifest(name: str) -> Manifest:
    """Load one of the manifests that ship with the command line."""
    return manifest_from_json((DATA / name).read_text(encoding="utf-8"))


def source_ids(manifest: Manifest) -> list[str]:
    """Return the ids of the nodes without inbound connections.

    Looks at the manifest alone, because a server may have node types that are unknown here.
    """
    fed = {link.target for link in manifest.connections}
    return list(dict.fromkeys(node.id for node in manifest.nodes if node.id not in fed))
