"""`python -m benchmarks`: the list of all benchmarks."""

from __future__ import annotations

import logging

import click

from benchmarks.capacity import capacity
from benchmarks.catalogue import catalogue
from benchmarks.endurance import endurance
from benchmarks.hops import engine
from benchmarks.latency import latency
from benchmarks.memory import memory
from benchmarks.nodes import nodes
from benchmarks.peers.command import peers
from benchmarks.scale import scale
from benchmarks.soak.soak import soak
from benchmarks.stalled import stalled
from benchmarks.unary import unary

__all__ = ["main"]


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure Headrace on this machine."""
    logging.basicConfig(level="ERROR")  # no warnings about slow nodes: under load, nodes are slow


_COMMANDS = (
    latency,
    capacity,
    engine,
    peers,
    scale,
    unary,
    memory,
    stalled,
    nodes,
    endurance,
    catalogue,
    soak,
)

for command in _COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
