"""A row's way through the running graph: edges, node tasks, the scheduler, and memory accounting."""

from __future__ import annotations

from engine.pipeline.running import RunningPipeline

__all__ = ["RunningPipeline"]
