"""Check of a server's answers before it is timed: they must equal the work done by hand in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import click
import numpy as np

from benchmarks.load.script import Load, Outcome
from benchmarks.peers import pipecat_frames
from benchmarks.peers.answers import Session
from benchmarks.peers.contenders import SERVERS, Stream
from protos import streaming_pb2 as streaming

__all__ = ["CHECKED", "Answers", "check", "read", "right_answers"]

CHECKED = {
    "echo": Stream("echo", 16_000, 20, 10),
    "vad": Stream("vad", 16_000, 100, 10),
    "speech": Stream("speech", 48_000, 20, 50),
}
"""Work → stream for its check: short, but with speech and silence in it."""

_LEVEL_TOLERANCE_DB = 0.01


@attrs.frozen
class Answers:
    """Answers of a session.

    Attributes:
      audio: All samples that were returned.
      decisions: A "0" or "1" for every detector frame.
      frames: Number of frames in each answer's level.
      levels: RMS and peak in dBFS, shape (answers, 2).
    """

    audio: bytes
    decisions: str
    frames: tuple[int, ...]
    levels: np.ndarray[Any, np.dtype[np.float64]] = attrs.field(eq=False)

    def faults(self, right: Answers) -> list[str]:
        """Return the names of the fields that differ from the right answers."""
        names = [name for name in ("audio", "decisions", "frames") if getattr(self, name) != getattr(right, name)]
        if self.levels.shape != right.levels.shape or not np.allclose(
            self.levels, right.levels, rtol=0, atol=_LEVEL_TOLERANCE_DB
        ):
            names.append("levels")
        return names


def read(messages: Sequence[bytes], *, websocket: bool = False) -> Answers:
    """Read a session's answers from its messages, in the order of arrival."""
    audio, found = b"", []
    for message in messages:
        if websocket:
            found.append(pipecat_frames.found_in(message))
            continue
        result = streaming.StreamResponse.FromString(message).result
        audio += b"".join(buffer.samples for buffer in result.audio_outputs.values())
        found.append({node: json.loads(text) for node, text in result.data_outputs.items()})
    levels = [each["level"] for each in found if "level" in each]
    return Answers(
        audio,
        "".join(each["vad"]["decisions"] for each in found if "vad" in each),
        tuple(each["frames"] for each in levels),
        np.array([(each["rms_dbfs"], each["peak_dbfs"]) for each in levels]),
    )


def right_answers(stream: Stream) -> Answers:
    """Return the answers of the work done by hand, in this process."""
    session = Session(stream.work)
    script = stream.script(SERVERS["driver"])
    responses = [session.respond(streaming.StreamRequest.FromString(chunk)) for chunk in script.chunks]
    return read([response.SerializeToString() for response in responses if response is not None])


def check(name: str, work: str, run: Any) -> None:
    """Have a server do the work once, and compare its answers.

    Args:
      name: Name of the server.
      work: Name of the work.
      run: Runs a load against the server, as `Callable[[Load], Outcome]`.

    Raises:
      ClickException: an answer is wrong or missing.
    """
    contender, stream = SERVERS[name], CHECKED[work]
    outcome: Outcome = run(Load(script=stream.script(contender, sample_every=1), sessions=1))
    answers = [each for each in outcome.kept if _is_answer(each, contender.websocket)]
    faults = read(answers, websocket=contender.websocket).faults(right_answers(stream))
    if outcome.lost or outcome.failed or faults:
        raise click.ClickException(
            f"{name} does not do {work!r} right: {outcome.lost} chunks lost, {outcome.failed} errors"
            f"{''.join(f', wrong {fault}' for fault in faults)}"
        )


def _is_answer(message: bytes, websocket: bool) -> bool:
    return websocket or streaming.StreamResponse.FromString(message).HasField("result")
