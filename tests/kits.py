"""The conformance kit under the name that our own tests call it by."""

from __future__ import annotations

from nodes.conformance import Outcome, blocks_of, check_node, cut, run, signal

__all__ = ["Outcome", "blocks_of", "check_node", "cut", "run", "signal"]
