"""Five `PassThroughCalculator`s of a MediaPipe graph.

It runs on the caller's thread, which takes half the time of MediaPipe's default, a pool of threads (`--threads`).
"""

from __future__ import annotations

import sys
from typing import Any

from mediapipe.python import packet_creator, packet_getter
from mediapipe.python._framework_bindings.calculator_graph import CalculatorGraph

from benchmarks.peers.chains.meter import NODES, Meter, main

_NODE = 'node {{ calculator: "PassThroughCalculator" input_stream: "s{0}" output_stream: "s{1}" }}'


def _graph(threads: bool) -> Any:
    lines = ['input_stream: "s0"', f'output_stream: "s{NODES}"']
    lines += [] if threads else ['executor { name: "" type: "ApplicationThreadExecutor" }']
    lines += [_NODE.format(number, number + 1) for number in range(NODES)]
    return CalculatorGraph(graph_config="\n".join(lines))


def run(meter: Meter) -> None:
    """Run the graph until all frames have come out."""
    graph = _graph(threads="--threads" in sys.argv)
    graph.observe_output_stream(f"s{NODES}", lambda stream, packet: meter.receive(packet))
    graph.start_run()
    while meter.received < meter.count:
        while meter.has_room:
            meter.wait()
            graph.add_packet_to_input_stream("s0", packet_creator.create_string(meter.send()).at(meter.sent))
        graph.wait_until_idle()
    graph.close_all_packet_sources()
    graph.wait_until_done()


if __name__ == "__main__":
    main(run, packet_getter.get_bytes)
