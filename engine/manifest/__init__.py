"""Manifests before anything runs: reading and checking them, and making the plan of a valid one."""

from __future__ import annotations

from engine.manifest.builder import Pipeline
from engine.manifest.manifest import (
    MAX_MANIFEST_BYTES,
    Capabilities,
    Connection,
    Cpu,
    Gpu,
    Manifest,
    NodeSpec,
    load_manifest,
    manifest_from_dict,
    manifest_from_json,
    manifest_to_json,
)

__all__ = [
    "MAX_MANIFEST_BYTES",
    "Capabilities",
    "Connection",
    "Cpu",
    "Gpu",
    "Manifest",
    "NodeSpec",
    "Pipeline",
    "load_manifest",
    "manifest_from_dict",
    "manifest_from_json",
    "manifest_to_json",
]
