"""VAD against webrtcvad called directly, and its smoothing against a model of its rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import samplerate
import webrtcvad
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.contract import Audio, Data, InvalidInput, Kind, from_float32
from nodes.dsp.segments import Segment, Segmenter, merge_segments, milliseconds
from nodes.vad import VAD
from tests.kits import blocks_of, check_node, cut, run


def speechlike(
    rate: int,
    pattern: Sequence[tuple[float, bool]] = ((0.3, False), (0.5, True), (0.6, False), (0.4, True), (0.5, False)),
) -> np.ndarray[Any, Any]:
    """Return int16 mono, (n, 1): a voiced buzz (harmonics of 140 Hz, wavering) by the pattern, else faint noise."""
    rng = np.random.default_rng(3)
    parts = []
    for seconds, loud in pattern:
        time = np.arange(int(seconds * rate)) / rate
        buzz = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 20)) * (1 + 0.5 * np.sin(25 * time))
        parts.append((6_000 * buzz if loud else 0) + rng.normal(0, 3, len(time)))
    return np.clip(np.rint(np.concatenate(parts)), -32_768, 32_767).astype(np.int16)[:, None]


@given(
    st.one_of(
        st.floats(allow_nan=False),
        st.builds(lambda frames, rate: frames * 1000 / rate, st.integers(0, 2**50), st.sampled_from([16_000, 44_100])),
        st.builds(lambda whole, part: whole + part / 2000, st.integers(0, 2**32), st.integers(0, 2000)),
    )
)
def test_milliseconds_are_what_round_gives(exact: float) -> None:
    assert repr(milliseconds(exact)) == repr(round(exact, 3))


def directly(samples: np.ndarray[Any, Any], rate: int, frame_ms: int = 30, aggressiveness: int = 2) -> str:
    vad, size = webrtcvad.Vad(aggressiveness), rate * frame_ms // 1000
    whole = len(samples) // size * size
    frames = [samples[at : at + size].tobytes() for at in range(0, whole, size)]
    return "".join("1" if vad.is_speech(frame, rate) else "0" for frame in frames)


def found(frames: np.ndarray[Any, Any], rate: int, sizes: list[int] | None = None, **params: Any) -> dict[str, Any]:
    node = VAD(**params)
    return dict(node.join(run(node, cut(frames, sizes or [rate // 50] * 500, rate)).data).value)


FINDINGS = ("decisions", "frames", "speech_ratio", "segments", "has_speech")


@pytest.mark.parametrize("forward_audio", [False, True])
@pytest.mark.parametrize("frame_ms", [10, 30])
def test_conforms(frame_ms: int, forward_audio: bool) -> None:
    check_node(
        lambda **params: VAD(**{"frame_duration_ms": frame_ms, "forward_audio": forward_audio, **params}),
        rates=(16_000, 44_100, 8_000),
        findings=lambda value: value and [value[key] for key in FINDINGS],
        refuse=lambda block: Audio(np.full((10, block.channels), np.nan, np.float32), block.sample_rate, block.start),
        faults=[
            {"aggressiveness": 4},
            {"frame_duration_ms": 25},
            {"min_speech_ms": -1},
            {"min_silence_ms": 100, "padding_ms": 101},
        ],
    )


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 48_000])
@pytest.mark.parametrize("frame_ms", [10, 20, 30])
@pytest.mark.parametrize("aggressiveness", [0, 3])
def test_decisions_are_those_of_webrtcvad_on_the_same_samples(rate: int, frame_ms: int, aggressiveness: int) -> None:
    samples = speechlike(rate)
    expected = directly(samples, rate, frame_ms, aggressiveness)
    assert "0" in expected
    assert "1" in expected
    value = found(
        samples, rate, [rate // 50, 17, 0, 1, 999] * 40, frame_duration_ms=frame_ms, aggressiveness=aggressiveness
    )
    assert value["decisions"] == expected
    assert value["speech_ratio"] == pytest.approx(expected.count("1") / len(expected))


def test_samples_at_full_scale_are_not_changed_on_the_way() -> None:
    samples = np.random.default_rng(0).choice([-32_768, 32_767, -1, 0, 1], (48_000, 1)).astype(np.int16)
    assert found(samples, 16_000)["decisions"] == directly(samples, 16_000)


def test_every_format_and_channel_count_hears_the_same() -> None:
    samples = speechlike(16_000)
    expected = found(samples, 16_000)["segments"]
    assert len(expected) == 2
    for same in (
        (samples / 32_768).astype(np.float32),
        samples.astype(np.int32) << 16,
        np.repeat(samples, 3, axis=1),
        np.repeat(samples, 128, axis=1),
    ):
        assert found(same, 16_000)["segments"] == expected


def test_channels_are_averaged() -> None:
    samples = speechlike(16_000)
    assert "1" not in found(np.concatenate((samples, -np.maximum(samples, -32_767)), axis=1), 16_000)["decisions"]


def test_other_rates_are_decided_on_at_16_khz() -> None:
    samples = speechlike(44_100)
    converted = samplerate.resample(
        (samples[:, 0] / np.float32(32_768)).astype(np.float32), 16_000 / 44_100, "sinc_fastest"
    )
    expected = directly(from_float32(converted, "i16"), 16_000)
    assert found(samples, 44_100)["decisions"] == expected


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 22_050])
def test_segments_lie_where_the_speech_is(rate: int) -> None:
    segments = found(speechlike(rate), rate)["segments"]
    assert len(segments) == 2
    for (start_ms, end_ms), (begins, ends) in zip(segments, ((300, 800), (1_400, 1_800)), strict=True):
        assert begins - 120 - 60 <= start_ms <= begins
        assert ends <= end_ms <= ends + 120 + 200  # the detector itself reports speech for some time after its end


def test_rows_tell_an_open_segment_until_it_closes() -> None:
    node, items = VAD(), []
    for block in cut(speechlike(16_000), [1_600] * 100, 16_000):
        (data,) = node.process(block)
        items.append(data)
    (start_ms, _), *_ = next(data.value["segments"] for data in items if data.value["segments"])
    about = [data for data in items if any(segment[0] == start_ms for segment in data.value["segments"])]
    ends = [dict(map(tuple, data.value["segments"]))[start_ms] for data in about]
    assert ends[:-1] == [None] * (len(ends) - 1)
    assert ends[-1] > start_ms
    assert [data.value["is_speech_start"] for data in about] == [True] + [False] * (len(about) - 1)
    assert [data.value["is_speech_end"] for data in about] == [False] * (len(about) - 1) + [True]
    assert all(data.value["has_speech"] for data in about)


def test_what_is_settled_is_never_changed_later() -> None:
    samples = speechlike(16_000)
    final = found(samples, 16_000)["segments"]
    node = VAD()
    before = 0.0
    for block in cut(samples, [333] * 200, 16_000):
        (data,) = node.process(block)
        assert data.at == before <= data.until <= block.stop / 16_000 + 1e-6
        before = data.until
        for start_ms, end_ms in data.value["segments"]:
            assert [start_ms, end_ms] in final or (end_ms is None and start_ms in [start for start, _ in final])
        inside = [start for start, end in final if start < before * 1000]
        starts = [start for start, _ in merge_segments([data.value["segments"]])]
        assert not [start for start in inside if start not in starts and start > (data.at or 0) * 1000]


def test_an_open_segment_closes_at_the_end_of_the_audio() -> None:
    samples = speechlike(16_000, [(0.3, False), (0.507, True)])
    ((start_ms, end_ms),) = found(samples, 16_000)["segments"]
    assert start_ms < 300
    assert end_ms == 807.0


@pytest.mark.parametrize("pattern", [[(0.5, False)], [(0.3, False), (0.5, True)], [(0.5, True), (0.2, False)]])
def test_at_the_end_everything_is_settled(pattern: Any) -> None:
    samples = speechlike(16_000, pattern)[:-7]
    *before, last = run(VAD(), cut(samples, [320] * 200, 16_000, start=8_000)).data
    assert last.until == pytest.approx(0.5 + len(samples) / 16_000, abs=1e-6)
    assert before[0].at == 0.5
    assert [data.at for data in before[1:]] + [last.at] == [data.until for data in before]


def test_a_gap_is_silence_and_a_short_one_does_not_split() -> None:
    samples = speechlike(16_000, [(0.6, True)])
    for gap_s, segments in ((0.2, 1), (1.0, 2)):
        node = VAD()
        start = len(samples) + int(gap_s * 16_000)
        data = run(node, blocks_of([(0, samples), (start, samples)], [320] * 30, 16_000)).data
        value = node.join(data).value
        assert len(value["segments"]) == segments
        assert value["frames"] == 40
        assert data[-1].until == 1.2 + gap_s


def test_positions_count_from_the_beginning_of_the_session() -> None:
    samples = speechlike(16_000)
    node = VAD()
    later = node.join(run(node, cut(samples, [320] * 200, 16_000, start=160_000)).data)
    assert later.value["timestamp_ms"] == 10_000
    assert later.value["segments"] == [
        [start + 10_000, end + 10_000] for start, end in found(samples, 16_000)["segments"]
    ]


def test_metrics_count_segments_across_finish() -> None:
    node = VAD()
    for _ in range(2):
        run(node, cut(speechlike(16_000), [320] * 200, 16_000))
    expected = directly(speechlike(16_000), 16_000)
    assert node.custom_metrics() == {"vad_segments": 4, "speech_ratio": expected.count("1") / len(expected)}


def test_gives_audio_only_when_it_is_asked_to() -> None:
    assert VAD().gives == Kind.DATA
    node = VAD(forward_audio=True)
    assert node.gives == Kind.BOTH
    block = Audio(speechlike(16_000)[:320], 16_000)
    audio, data = node.process(block)
    assert audio is block
    assert isinstance(data, Data)


def test_refuses_what_it_cannot_hear() -> None:
    node = VAD()
    with pytest.raises(InvalidInput, match="62 Hz"):
        list(node.process(Audio(np.zeros((9, 1), np.int16), 62)))
    list(node.process(Audio(np.zeros((160, 1), np.int16), 16_000, 160)))
    for block in (Audio(np.zeros((9, 1), np.int16), 8_000, 320), Audio(np.zeros((9, 1), np.int16), 16_000, 300)):
        with pytest.raises(InvalidInput):
            list(node.process(block))


def modelled(decisions: list[bool], frame_ms: int, min_speech: int, min_silence: int, padding: int) -> list[Segment]:
    """Return the segments by the rules of smoothing, applied to the whole list at once."""
    segments: list[Segment] = []
    runs: list[tuple[int, int]] = []
    for index, speech in enumerate([*decisions, False]):
        if speech and (not index or not decisions[index - 1]):
            first = index
        if not speech and index and decisions[index - 1]:
            runs.append((first * frame_ms, index * frame_ms))
    joined: list[list[int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < max(min_silence, 1):
            joined[-1][1] = end
        elif end - start >= min_speech:
            joined.append([start, end])
    for start, end in joined:
        floor = segments[-1][1] if segments else 0
        assert floor is not None
        segments.append([max(start - padding, floor), min(end + padding, len(decisions) * frame_ms)])
    return segments


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=12),
    st.sampled_from([10, 20, 30]),
    st.integers(0, 100),
    st.integers(0, 120),
    st.floats(0, 1),
)
def test_smoothing_follows_its_rules_and_settles_for_good(
    pattern: list[tuple[bool, int]], frame_ms: int, min_speech: int, min_silence: int, share: float
) -> None:
    decisions = [speech for speech, times in pattern for _ in range(times)]
    padding = int(share * min_silence)
    segmenter = Segmenter(min_speech, min_silence, padding, 0.0)
    rows, settled = [], []
    for index, speech in enumerate(decisions):
        (segmenter.speech_until if speech else segmenter.silence_until)((index + 1) * frame_ms)
        rows.append(segmenter.take())
        settled.append(segmenter.settled_ms)
    segmenter.end_at(len(decisions) * frame_ms)
    rows.append(segmenter.take())
    final = merge_segments(rows)
    assert final == modelled(decisions, frame_ms, min_speech, min_silence, padding)
    assert settled == sorted(settled)
    for index, point in enumerate(settled):
        reported = merge_segments(rows[: index + 1])
        for start_ms, end_ms in final:  # a segment not reported yet begins no earlier; an open one ends no earlier
            if start_ms not in [start for start, _ in reported]:
                assert start_ms >= point
            elif [start_ms, end_ms] not in reported:
                assert end_ms >= min(point, len(decisions) * frame_ms)
