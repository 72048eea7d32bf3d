"""Five `identity` elements of a GStreamer pipeline, each behind a queue and therefore on its own thread.

With `--one-thread` there are no queues.
"""

from __future__ import annotations

import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401 - GstApp gives appsrc and appsink their methods

from benchmarks.peers.chains.meter import NODES, Meter, main  # noqa: E402


def _description(one_thread: bool) -> str:
    node = "identity silent=true" if one_thread else "queue ! identity silent=true"
    return " ! ".join(["appsrc name=in format=time", *[node] * NODES, "appsink name=out sync=false"])


def _content(sample: Any) -> bytes:
    buffer = sample.get_buffer()
    content: bytes = buffer.extract_dup(0, buffer.get_size())
    return content


def run(meter: Meter) -> None:
    """Run the pipeline until all frames have come out."""
    Gst.init(None)
    pipeline = Gst.parse_launch(_description("--one-thread" in sys.argv))
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    while meter.received < meter.count:
        while meter.has_room:
            meter.wait()
            source.push_buffer(Gst.Buffer.new_wrapped(meter.send()))
        meter.receive(sink.pull_sample())
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main(run, _content)
