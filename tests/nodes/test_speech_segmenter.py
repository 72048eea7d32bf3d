"""SpeechSegmenter yields each final segment as one block, however rows are cut; test_speech_gate.py tests the rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.bases.alignment import SkewTooGreat
from nodes.contract import Audio, Data, InvalidInput
from nodes.speech_segmenter import SpeechSegmenter
from tests.kits import check_node, cut, signal
from tests.nodes.test_speech_gate import with_vad
from tests.nodes.test_vad import speechlike

RATE = 8_000


def outcome(node: SpeechSegmenter, rows: Sequence[Any]) -> list[tuple[Data, Audio]]:
    """Return the utterances, each with its data, which come before a whole utterance and after one in pieces."""
    items = [item for row in rows for item in node.process(row)] + list(node.finish())
    if node.whole:
        return list(zip(items[::2], items[1::2], strict=True))
    found, pieces = [], list[Audio]()
    for item in items:
        if isinstance(item, Audio):
            pieces.append(item)
            continue
        assert all(one.stop == other.start for one, other in pairwise(pieces))
        frames = np.concatenate([piece.frames for piece in pieces])
        found.append((item, Audio(frames, pieces[0].sample_rate, pieces[0].start)))
        pieces = []
    assert not pieces
    return found


def spoken(*segments: list[float | None], until_ms: float) -> Data:
    return Data({"segments": list(segments)}, 0.0, until_ms / 1000)


@pytest.mark.parametrize(("whole", "rates"), [(True, (16_000, 44_100)), (False, (16_000,))])
def test_conforms(whole: bool, rates: tuple[int, ...]) -> None:
    check_node(
        lambda **params: SpeechSegmenter(**{"pre_roll_ms": 50, "max_utterance_ms": 100, "whole": whole, **params}),
        feed=with_vad,
        rates=rates,
        length=None,
        findings=lambda value: value,
        faults=[{"pre_roll_ms": -1}, {"max_utterance_ms": 99}, {"max_skew_ms": 0}],
        refuse=lambda block: {"audio": [Audio(block.frames, block.sample_rate + 1, block.start)], "vad": []},
    )


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 900)), min_size=1, max_size=6),
    st.integers(0, 150),
    st.integers(0, 150),
    st.integers(100, 500),
    st.lists(st.integers(100, 4_000), min_size=1, max_size=6),
    st.integers(0, 3),
    st.booleans(),
)
def test_utterances_are_the_segments_with_their_rolls(
    pattern: list[tuple[int, int]], pre: int, post: int, longest: int, sizes: list[int], lateness: int, whole: bool
) -> None:
    segments, at = [], 0
    for silence, speech in pattern:
        segments.append([float(at + silence), float(at + silence + speech)])
        at += silence + speech
    total_ms = at + 300
    expected: list[list[int]] = []
    for start_ms, end_ms in segments:
        start, stop = max(0, round((start_ms - pre) * 8)), min(round((end_ms + post) * 8), total_ms * 8)
        if expected and start <= expected[-1][1]:
            expected[-1][1] = stop
        else:
            expected.append([start, stop])
    pieces = [
        (start, min(start + longest * 8, stop), start + longest * 8 < stop)
        for first, stop in expected
        for start in range(first, stop, longest * 8)
    ]
    frames = np.arange(total_ms * 8, dtype=np.int32)[:, None]
    rows = [{"audio": [block], "vad": []} for block in cut(frames, sizes * 1_000, RATE)]
    heard_ms, settled = 0.0, [row["audio"][0].stop / 8 for row in rows]  # type: ignore[attr-defined]
    for index, until_ms in enumerate(settled):
        reported = [
            [start, end if end <= until_ms else None] for start, end in segments if start < until_ms and end > heard_ms
        ]
        heard_ms = until_ms
        late = min(index + lateness, len(rows) - 1)
        rows[late]["vad"].append(spoken(*reported, until_ms=until_ms))  # type: ignore[arg-type]
    node = SpeechSegmenter(
        pre_roll_ms=pre, post_roll_ms=post, max_utterance_ms=longest, max_skew_ms=60_000, whole=whole
    )
    found = outcome(node, rows)
    assert [(audio.start, audio.stop, data.value["utterances"][0]["continues"]) for data, audio in found] == pieces
    for data, audio in found:
        assert np.array_equal(audio.frames, frames[audio.start : audio.stop])
        assert data.value["segments"] == [[audio.start / 8, audio.stop / 8]]
        assert [data.at, data.until] == pytest.approx([audio.start / RATE, audio.stop / RATE])
        assert data.value["utterances"][0]["duration_ms"] == len(audio.frames) / 8


def test_an_utterance_comes_as_soon_as_its_end_is_settled() -> None:
    node = SpeechSegmenter(pre_roll_ms=10, post_roll_ms=0)
    assert list(node.process({"a": [Audio(signal(800), RATE)], "v": [spoken([50.0, 90.0], until_ms=99)]})) == []
    data, audio = node.process({"a": [], "v": [spoken(until_ms=101)]})
    assert (audio.start, audio.stop) == (320, 720)
    assert data.value["utterances"] == [{"start_ms": 40.0, "end_ms": 90.0, "duration_ms": 50.0, "continues": False}]


def test_unless_whole_the_audio_comes_as_soon_as_it_is_settled_and_the_times_at_the_end() -> None:
    node = SpeechSegmenter(pre_roll_ms=10, post_roll_ms=0, whole=False)
    (audio,) = node.process({"a": [Audio(signal(800), RATE)], "v": [spoken([50.0, None], until_ms=70)]})
    assert (audio.start, audio.stop) == (320, 559)
    assert node.memory_bytes < 800 * 4 + 200
    rest, data = node.process({"a": [], "v": [spoken([50.0, 90.0], until_ms=101)]})
    assert (rest.start, rest.stop) == (559, 720)
    assert data.value["segments"] == [[40.0, 90.0]]


def test_a_gap_in_the_audio_parts_utterances() -> None:
    blocks = [Audio(signal(400), RATE), Audio(signal(400), RATE, 480)]
    rows = [{"both": [*blocks, spoken([0.0, 110.0], until_ms=110)]}]
    found = outcome(SpeechSegmenter(pre_roll_ms=0, post_roll_ms=0), rows)
    assert [(audio.start, audio.stop) for _, audio in found] == [(0, 400), (480, 880)]
    assert not any(data.value["utterances"][0]["continues"] for data, _ in found)


def test_blocks_of_unlike_formats_become_one_utterance() -> None:
    frames = signal(800, sample_format="i16")
    blocks = [Audio(frames[:400], RATE), Audio((frames[400:] / np.float32(32_768)).astype(np.float32), RATE, 400)]
    ((_, audio),) = outcome(SpeechSegmenter(), [{"both": [*blocks, spoken([0.0, 100.0], until_ms=100)]}])
    assert np.array_equal(audio.frames, frames)


def test_several_utterances_join() -> None:
    node, feed = SpeechSegmenter(), with_vad()
    rows = [feed(block) for block in [*cut(speechlike(16_000), [320] * 200, 16_000), None]]
    found = outcome(node, rows)
    joined = node.join([data for data, _ in found])
    assert len(found) == 2
    assert joined.value["segments"] == [data.value["segments"][0] for data, _ in found]
    assert (joined.at, joined.until) == (found[0][0].at, found[1][0].until)


def test_what_is_held_is_bounded_and_skew_fails() -> None:
    node, most = SpeechSegmenter(max_utterance_ms=1_000, max_skew_ms=2_000), 0
    block = signal(RATE, sample_format="i16")
    for second in range(3_600):
        until = 1_000.0 * (second + 1)
        list(node.process({"a": [Audio(block, RATE, second * RATE)], "v": [spoken([0.0, None], until_ms=until)]}))
        most = max(most, node.memory_bytes)
    assert most < 3 * block.nbytes
    with pytest.raises(SkewTooGreat):
        list(node.process({"a": [Audio(signal(3 * RATE), RATE, 3_600 * RATE)], "v": []}))


def test_data_without_segments_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'v' have no speech segments"):
        list(SpeechSegmenter().process({"v": [Data({"rms_dbfs": -3.0}, 0.0, 0.1)]}))
