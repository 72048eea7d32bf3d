"""SpeechGate passes exactly the frames that the final segments cover, however audio and data arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.audio_resample import AudioResample
from nodes.bases.alignment import SkewTooGreat
from nodes.contract import Audio, Data, InvalidInput
from nodes.dsp.segments import Segment, Segmenter, merge_segments
from nodes.speech_gate import SpeechGate
from nodes.vad import VAD
from tests.kits import check_node, cut, signal
from tests.nodes.test_vad import speechlike

Row = Mapping[str, Sequence[Any]]


def gate(**params: Any) -> SpeechGate:
    node = SpeechGate(**params)
    node.connect(("audio", "vad"))
    return node


def with_vad(vad_rate: int | None = None) -> Callable[[Audio | None], Row | None]:
    """Make a feed of rows as an engine makes them: the audio, and the data of VAD on it, resampled to `vad_rate`."""
    vad = VAD(min_speech_ms=30, min_silence_ms=90, padding_ms=30)
    resample = AudioResample(target_sample_rate=vad_rate) if vad_rate else None

    def feed(block: Audio | None) -> Row:
        if resample is None:
            heard = [] if block is None else [block]
        else:
            heard = list(resample.finish() if block is None else resample.process(block))
        data = [item for one in heard for item in vad.process(one)]
        data += list(vad.finish()) if block is None else []
        return {"audio": [] if block is None else [block], "vad": data}

    return feed


def passed_by(node: SpeechGate, rows: Sequence[Row]) -> dict[int, float]:
    """Return position → first channel's sample of all frames that passed."""
    items = [item for row in rows for item in node.process(row)]
    items += node.finish()
    frames: dict[int, float] = {}
    for item in items:
        assert len(item.frames)
        for offset, value in enumerate(item.frames[:, 0].tolist()):
            assert item.start + offset not in frames
            frames[item.start + offset] = value
    assert list(frames) == sorted(frames)
    return frames


def covered(
    frames: np.ndarray[Any, Any], segments: list[Segment], rate: int, pre: float, post: float
) -> dict[int, float]:
    positions: set[int] = set()
    for start_ms, end_ms in segments:
        assert start_ms is not None
        assert end_ms is not None
        positions.update(range(round((start_ms - pre) * rate / 1000), round((end_ms + post) * rate / 1000)))
    return {at: frames[at, 0].item() for at in sorted(positions) if 0 <= at < len(frames)}


@pytest.mark.parametrize("vad_rate", [None, 8_000])
def test_conforms(vad_rate: int | None) -> None:
    check_node(
        lambda **params: gate(**{"pre_roll_ms": 50, **params}),
        feed=lambda: with_vad(vad_rate),
        rates=(16_000, 44_100),
        length=None,
        faults=[{"pre_roll_ms": -1}, {"post_roll_ms": 10_001}, {"max_skew_ms": 0}],
        refuse=lambda block: {"audio": [block], "vad": [Data({"text": "no segments"}, 0.0, 1.0)]},
    )


@pytest.mark.parametrize(("rate", "vad_rate"), [(16_000, None), (48_000, 16_000), (44_100, 8_000)])
@pytest.mark.parametrize("size_ms", [20, 1_000])
def test_passes_what_the_segments_cover(rate: int, vad_rate: int | None, size_ms: int) -> None:
    frames = speechlike(rate)
    feed = with_vad(vad_rate)
    rows = [feed(block) for block in [*cut(frames, [rate * size_ms // 1000] * 200, rate), None]]
    segments = merge_segments(item.value["segments"] for row in rows if row for item in row["vad"])
    assert len(segments) == 2
    passed = passed_by(gate(pre_roll_ms=100, post_roll_ms=40), [row for row in rows if row])
    assert passed == covered(frames, segments, rate, 100, 40)
    assert 0 < len(passed) < len(frames)


def test_silence_gives_nothing_at_all() -> None:
    node, feed = gate(), with_vad()
    for block in cut(np.zeros((32_000, 1), np.int16), [320] * 100, 16_000):
        row = feed(block)
        assert row
        assert list(node.process(row)) == []
    assert list(node.finish()) == []


def test_holds_no_more_than_vad_and_pre_roll_need() -> None:
    node, feed, vad = gate(), with_vad(), VAD(min_speech_ms=30, min_silence_ms=90, padding_ms=30)
    most = 0
    for block in cut(speechlike(16_000), [320] * 200, 16_000):
        row = feed(block)
        assert row
        list(node.process(row))
        most = max(most, node.memory_bytes)
    assert 0 < most <= (vad.delay + node.delay) * 16_000 * 2 + 200


def test_audio_and_data_may_come_from_one_node() -> None:
    frames = speechlike(16_000)
    vad, node = VAD(forward_audio=True), gate()
    rows = [{"vad": list(vad.process(block))} for block in cut(frames, [320] * 200, 16_000)]
    rows.append({"vad": list(vad.finish())})
    segments = merge_segments(item.value["segments"] for row in rows for item in row["vad"] if isinstance(item, Data))
    assert passed_by(node, rows) == covered(frames, segments, 16_000, 200, 0)


patterns = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=8)


@settings(max_examples=150)
@given(
    patterns,
    st.sampled_from([8_000, 11_025, 44_100]),
    st.integers(0, 80),
    st.integers(0, 80),
    st.integers(0, 60),
    st.integers(0, 2**32),
)
def test_any_lateness_of_either_passes_the_same(
    pattern: Any, rate: int, pre: int, post: int, min_silence: int, seed: int
) -> None:
    random = Random(seed)
    segmenter = Segmenter(30, min_silence, min_silence / 3, 0.0)
    data: list[Data] = []
    for index, speech in enumerate(speech for speech, times in pattern for _ in range(times)):
        (segmenter.speech_until if speech else segmenter.silence_until)((index + 1) * 10)
        until = min(segmenter.settled_ms, segmenter.decided_ms)
        data.append(Data({"segments": segmenter.take()}, 0.0, round(until, 3) / 1000))
    total_ms = len(data) * 10
    segmenter.end_at(total_ms)
    data.append(Data({"segments": segmenter.take()}, 0.0, total_ms / 1000))
    frames = np.arange(1, total_ms * rate // 1000 + 1, dtype=np.int32)[:, None]
    blocks = list(cut(frames, [random.randint(1, rate // 20) for _ in range(50)], rate))
    expected = covered(frames, merge_segments(item.value["segments"] for item in data), rate, pre, post)
    rows: list[Row] = []
    while blocks or data:
        audio = [blocks.pop(0) for _ in range(min(len(blocks), random.randint(0, 3)))]
        rows.append({"audio": audio, "vad": [data.pop(0) for _ in range(min(len(data), random.randint(0, 3)))]})
    assert passed_by(gate(pre_roll_ms=pre, post_roll_ms=post), rows) == expected


def test_speech_passes_as_soon_as_it_is_settled() -> None:
    node = gate(pre_roll_ms=10)
    block = Audio(signal(800, sample_format="i16"), 8_000)
    (out,) = node.process({"audio": [block], "vad": [Data({"segments": [[50.0, None]]}, 0.0, 0.08)]})
    assert (out.start, out.stop) == (320, 639)  # one frame is held back, because times are rounded
    (rest,) = node.process({"audio": [], "vad": [Data({"segments": [[50.0, 90.0]]}, 0.08, 0.1)]})
    assert (rest.start, rest.stop) == (639, 720)


def test_several_segments_of_one_row_pass_at_once_and_are_forgotten() -> None:
    node = gate(pre_roll_ms=0)
    segments = [[float(at), at + 10.0] for at in range(0, 1_000, 20)]
    passed = list(
        node.process({"audio": [Audio(signal(8_000), 8_000)], "vad": [Data({"segments": segments}, 0.0, 1.0)]})
    )
    assert [(block.start, len(block.frames)) for block in passed] == [(at, 80) for at in range(0, 8_000, 160)]
    assert node.memory_bytes == 32_000  # the whole block, because of its last frame, and no segment


def test_what_no_segment_covers_is_dropped_at_the_end() -> None:
    node = gate()
    assert not list(node.process({"audio": [Audio(signal(100), 8_000)], "vad": []}))
    assert node.memory_bytes == 400
    assert list(node.finish()) == []
    assert node.memory_bytes == 0


def test_data_or_audio_that_stay_away_fail_the_node_by_name() -> None:
    node = gate(max_skew_ms=100)
    list(node.process({"audio": [Audio(signal(80), 8_000)], "vad": [Data({"segments": []}, 0.0, 0.01)]}))
    with pytest.raises(SkewTooGreat, match="'vad' is 110 ms behind"):
        list(node.process({"audio": [Audio(signal(880), 8_000, 80)], "vad": []}))
    node = gate(max_skew_ms=100)
    list(node.process({"audio": [Audio(signal(80), 8_000)], "vad": []}))
    with pytest.raises(SkewTooGreat, match="'audio' is 140 ms behind"):
        list(node.process({"audio": [], "vad": [Data({"segments": []}, 0.0, 0.15)]}))


@pytest.mark.parametrize(
    "row",
    [
        {"audio": [Audio(signal(8), 8_000, 80)], "other": [Audio(signal(8), 8_000, 80)]},
        {"audio": [Audio(signal(8), 8_001, 80)]},
        {"audio": [Audio(signal(8), 8_000, 79)]},
        {"vad": [Data({"decisions": "1"}, 0.0, 0.1)]},
        {"other": [Data({"segments": []}, 0.0, 0.1)]},
    ],
)
def test_what_does_not_fit_is_refused(row: Row) -> None:
    node = gate()
    list(node.process({"audio": [Audio(signal(80), 8_000)], "vad": [Data({"segments": []}, 0.0, 0.0)]}))
    before = node.memory_bytes
    with pytest.raises(InvalidInput):
        list(node.process(row))
    assert node.memory_bytes == before
