"""Parts of the commands: pacing, send times, segments and the strips."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from engine.cli.reports.speech_log import Segment, SpeechLog
from engine.cli.reports.timeline import Timeline
from engine.cli.streaming.audio_files import open_audio
from engine.cli.streaming.feeder import Feeder, Pace, SendTimes
from engine.messages import Chunk, Ready
from tests.cli.programs import write_tone


@attrs.define
class SlowSession:
    """Session that takes one of its chunks slowly, and records the arrival of each."""

    slow: int
    taken: list[tuple[float, Chunk]] = attrs.field(factory=list)
    ready: Ready = attrs.field(factory=lambda: Ready("", 0.0, 32))
    stalled: trio.Event = attrs.field(factory=trio.Event)
    closed: bool = False

    async def send(self, chunk: Chunk) -> None:
        self.taken.append((trio.current_time(), chunk))
        if chunk.sequence == self.slow:
            self.stalled.set()
            await trio.sleep(0.25)

    async def close(self) -> None:
        self.closed = True

    async def cancel(self) -> None:
        raise AssertionError

    async def receive(self) -> None:
        raise AssertionError


def test_a_paced_feed_catches_up_after_a_stall_and_never_drifts(tmp_path: Path) -> None:
    async def feed() -> None:
        session = SlowSession(slow=10)
        with open_audio(write_tone(tmp_path / "t.wav", frames=33_075, rate=22_050)) as audio:
            began = trio.current_time()
            feeder = Feeder(audio, "", Pace(chunk_ms=10, realtime=True))
            await feeder.run(session)
        sent_ms = [(at - began) * 1000 for at, _ in session.taken]
        assert session.closed
        assert [chunk.sequence for _, chunk in session.taken] == list(range(150))
        assert sent_ms[:11] == pytest.approx([10 * (i + 1) for i in range(11)], abs=0.03)
        assert sent_ms[11:35] == pytest.approx([360.0] * 24, abs=0.03)  # the chunks due meanwhile, at once
        assert sent_ms[40:] == pytest.approx([10 * (i + 1) for i in range(40, 150)], abs=0.03)
        assert (feeder.times.take(12) or 0) - began == pytest.approx(0.130, abs=1e-4)  # due, not sent

    trio.run(feed, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_feed_that_is_stopped_sends_no_more_and_does_not_close(tmp_path: Path) -> None:
    async def feed() -> None:
        session = SlowSession(slow=3)
        with open_audio(write_tone(tmp_path / "t.wav")) as audio:
            feeder = Feeder(audio, "", Pace(realtime=True))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(feeder.run, session)
                await session.stalled.wait()
                feeder.stop()
                with trio.fail_after(1):
                    await feeder.stopped.wait()
        assert (len(session.taken), session.closed) == (4, False)

    trio.run(feed, clock=trio.testing.MockClock(autojump_threshold=0))


def test_send_times_forget_what_was_dropped_and_stay_bounded() -> None:
    times = SendTimes()
    for sequence in range(70_000):
        times.note(sequence, float(sequence))
    assert len(times) == 65_536
    assert times.take(0) is None
    assert times.take(69_000) == 69_000.0
    assert times.take(69_000) is None
    assert len(times) == 999


def test_a_segment_is_news_when_it_opens_and_when_it_closes() -> None:
    log = SpeechLog()
    assert log.hear("v", {"segments": [[100, None]]}) == [Segment("v", 100, None)]
    assert log.hear("v", {"segments": [[100, None]]}) == []
    assert log.hear("v", {"segments": [[100, 250.5], [400, None]]}) == [
        Segment("v", 100, 250.5),
        Segment("v", 400, None),
    ]
    assert (log.count, log.speech_ms, list(log.open)) == ({"v": 1}, {"v": 150.5}, [("v", 400)])


@pytest.mark.parametrize("value", [{}, {"segments": None}, {"segments": [1, "a", [], [None, 1], [1, 2, 3]]}])
def test_other_data_has_no_segments(value: dict[str, object]) -> None:
    assert SpeechLog().hear("v", value) == []


def test_the_strips_show_levels_and_speech_in_their_places() -> None:
    timeline = Timeline(10.0, 10)
    assert (timeline.level_strip(), timeline.speech_strip(5.0)) == ("", "")
    for at_ms, dbfs in ((0, -120.0), (1000, -12.0), (1500, -60.0)):
        timeline.level("l", {"rms_dbfs": dbfs, "timestamp_ms": at_ms})
    timeline.level("other", {"rms_dbfs": 0.0, "timestamp_ms": 5000})
    assert timeline.level_strip() == "▁█        "
    timeline.speech(Segment("v", 2000, None))
    assert timeline.speech_strip(5.0) == "──███     "
    timeline.speech(Segment("v", 2000, 4000))
    assert timeline.speech_strip(10.0) == "──██──────"
