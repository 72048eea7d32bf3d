"""The conformance kit: one battery of checks for every node, the built-in ones and yours.

    from nodes.conformance import check_node

    def test_my_node() -> None:
        check_node(MyNode, rates=(16_000, 48_000), faults=[{"cutoff_hz": -1}])

It needs neither pytest nor the engine: plain asserts on the output of a node for one stream, cut in many ways.
"""

from __future__ import annotations

from nodes.conformance.battery import HOUR_S, Report, check_node, same_length
from nodes.conformance.harness import Feed, Outcome, blocks_of, cut, run, signal

__all__ = ["HOUR_S", "Feed", "Outcome", "Report", "blocks_of", "check_node", "cut", "run", "same_length", "signal"]
