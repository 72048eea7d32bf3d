"""A user's program, typed strictly and run against an installed Headrace: a node, a pipeline and a session."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np
import trio

from headrace import (
    BUILTIN,
    Audio,
    Chunk,
    EngineError,
    Manifest,
    Node,
    Pipeline,
    Result,
    Session,
    SessionMetrics,
    SessionOptions,
    check_node,
    manifest_to_json,
    open_session,
    parameter,
)


@attrs.define
class Invert(Node):
    """Turn the signal upside down, and scale it."""

    gain: float = parameter(1.0, help="factor", at_least=0, at_most=10)

    def process(self, item: Audio) -> Iterable[Audio]:
        yield item.derive(-self.gain * item.as_float32())


def speech() -> Manifest:
    pipeline = (
        Pipeline("inverted").add("invert", Invert(gain=0.5)).add("level", "AudioLevel").connect("invert", "level")
    )
    return pipeline.manifest()


async def send(session: Session) -> None:
    tone = np.sin(np.arange(16_000) / 10).astype(np.float32)[:, None]
    for sequence, start in enumerate(range(0, len(tone), 320)):
        await session.send(Chunk(Audio(tone[start : start + 320], 16_000), sequence))
    await session.close()


async def main() -> None:
    check_node(Invert, formats=("f32",), faults=[{"gain": -1}])
    registry = {**BUILTIN, "Invert": Invert}
    async with (
        open_session(speech(), registry=registry, options=SessionOptions(lean=True)) as session,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send, session)
        async for event in session:
            match event:
                case Result(sequence=sequence, outputs=outputs) if "level" in outputs:
                    data = outputs["level"].data
                    assert data is not None
                    print(sequence, data.value["rms_dbfs"])
                case SessionMetrics(final=True):
                    print(event.delivered, "delivered")
                case EngineError():
                    raise event


if __name__ == "__main__":
    print(len(manifest_to_json(speech())), "characters of JSON")
    trio.run(main)
