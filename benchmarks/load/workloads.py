"""Workloads of the benchmarks: manifests by name, and the audio to send."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from engine.manifest import Manifest, load_manifest, manifest_from_dict
from nodes.contract import Audio

__all__ = ["WORKLOADS", "branches", "speech_like", "workload"]

_CHAIN = [f"pass{i}" for i in range(5)]

WORKLOADS: dict[str, dict[str, object]] = {
    "passthrough": {"version": "v1", "nodes": [{"id": "pass", "node_type": "PassThrough"}]},
    "chain": {
        "version": "v1",
        "nodes": [{"id": node, "node_type": "PassThrough"} for node in _CHAIN],
        "connections": [{"from": a, "to": b} for a, b in pairwise(_CHAIN)],
    },
    "vad": {
        "version": "v1",
        "nodes": [{"id": "pass", "node_type": "PassThrough"}, {"id": "vad", "node_type": "VAD"}],
        "connections": [{"from": "pass", "to": "vad"}],
    },
    "speech": {
        "version": "v1",
        "nodes": [
            {"id": "resample", "node_type": "AudioResample", "params": {"target_sample_rate": 16000}},
            {"id": "vad", "node_type": "VAD"},
            {"id": "level", "node_type": "AudioLevel"},
        ],
        "connections": [{"from": "resample", "to": "vad"}, {"from": "resample", "to": "level"}],
    },
}


def workload(name: str) -> Manifest:
    """Return a manifest by its name here, or from a JSON file.

    Raises:
      OSError: the name is unknown, and not that of a readable file.
      ManifestInvalid: the file does not hold a valid manifest.
    """
    known = WORKLOADS.get(name)
    return load_manifest(Path(name)) if known is None else manifest_from_dict(known)


def branches(depth: int, fan_out: int, *, joined: bool = False) -> Manifest:
    """Make a graph of pass-through nodes: one feeds `fan_out` equal chains, and the longest path has `depth` nodes.

    Args:
      depth: At least 1, and at least 2 with a fan-out above 1.
      fan_out: Number of chains behind the first node.
      joined: End all chains in one more node.
    """
    nodes = ends = ["in"]
    edges: list[tuple[str, str]] = []
    for branch in range(fan_out if depth > 1 else 0):
        chain = [f"b{branch}n{place}" for place in range(1, depth)]
        nodes = [*nodes, *chain]
        edges += pairwise(["in", *chain])
        ends = [*(end for end in ends if end != "in"), chain[-1]]
    if joined:
        nodes = [*nodes, "out"]
        edges += [(end, "out") for end in ends]
    return manifest_from_dict(
        {
            "version": "v1",
            "nodes": [{"id": node, "node_type": "PassThrough"} for node in nodes],
            "connections": [{"from": a, "to": b} for a, b in edges],
        }
    )


def speech_like(seconds: float, sample_rate: int) -> Audio:
    """Make mono i16 audio: a buzz of 24 harmonics, swelling and pausing as syllables do, over faint noise."""
    rng = np.random.default_rng(7)
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 25))
    loudness = np.clip(np.sin(2 * np.pi * 3 * t), 0, None) * (np.sin(2 * np.pi * 0.3 * t) > -0.3)
    samples = 0.2 * buzz * loudness + 0.003 * rng.standard_normal(len(t))
    return Audio((samples * 32767).clip(-32768, 32767).astype(np.int16)[:, None], sample_rate)
