"""SNR on a signal like speech in noise of known power."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from nodes.conformance import check_node, cut, run
from nodes.contract import Audio
from nodes.snr import SNR
from tests.e2e.sounds import speech

RATE = 16_000
TOLERANCE_DB = 1.0


@cache
def voice(rate: int = RATE, seconds: float = 10.0) -> Any:
    """Return phrases with pauses, of power 0.01 (-20 dBFS), including a faint noise."""
    frames = speech(rate, seconds) / 32768
    return np.sqrt(0.01 / np.square(frames).mean()) * frames


def noisy(snr_db: float, rate: int = RATE, seconds: float = 10.0) -> Any:
    clean = voice(rate, seconds)
    noise = np.random.default_rng(5).normal(0, 0.1 * 10 ** (-snr_db / 20), len(clean))
    return (clean + noise)[:, None].astype(np.float32)


def last(frames: Any, rate: int = RATE, **params: Any) -> Mapping[str, Any]:
    return run(SNR(**params), cut(frames, [], rate)).data[-1].value


def test_conforms() -> None:
    check_node(
        lambda **params: SNR(**{"noise_percentile": 5, **params}),
        formats=("f32", "i16"),
        rates=(2_000, 11_025),  # FRAMES are two seconds, and a third of a second
        findings=lambda value: value,
        faults=[{"window_ms": 999}, {"noise_percentile": 0}, {"noise_percentile": 91}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@pytest.mark.parametrize("rate", [8_000, 22_050])
@pytest.mark.parametrize("snr_db", [0, 5, 10, 20])
def test_speech_in_noise_of_known_power(snr_db: float, rate: int) -> None:
    value = last(noisy(snr_db, rate), rate)
    assert value["snr_db"] == pytest.approx(snr_db, abs=TOLERANCE_DB)
    assert value["signal_dbfs"] == pytest.approx(-20, abs=TOLERANCE_DB)
    assert value["noise_dbfs"] == pytest.approx(-20 - snr_db, abs=TOLERANCE_DB)


def test_noise_alone_and_silence_have_no_signal() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, (5 * RATE, 1)).astype(np.float32)
    assert last(noise)["snr_db"] < -5
    assert last(noise)["noise_dbfs"] == pytest.approx(-20, abs=TOLERANCE_DB)
    assert last(np.zeros((5 * RATE, 1), np.int16)) == {"snr_db": -10, "signal_dbfs": -120, "noise_dbfs": -120}


def test_an_offset_does_not_count() -> None:
    assert last(noisy(10) + np.float32(0.3))["snr_db"] == pytest.approx(last(noisy(10))["snr_db"], abs=0.02)


def test_what_is_longer_ago_than_the_window_is_forgotten() -> None:
    frames = np.concatenate([noisy(0, seconds=3.0), noisy(15, seconds=3.0)])
    assert last(frames, window_ms=3_000)["snr_db"] == last(noisy(15, seconds=3.0))["snr_db"]
    node = SNR(window_ms=3_000)
    held = set()
    for number in range(20):
        list(node.process(Audio(frames, RATE, number * len(frames))))
        held.add(node.memory_bytes)
    assert len(held) == 1


def test_nothing_is_said_of_less_than_a_second() -> None:
    node = SNR()
    (short,) = node.process(Audio(noisy(10)[: RATE - 320], RATE))
    (second,) = node.process(Audio(noisy(10)[RATE - 320 : RATE], RATE, RATE - 320))
    (after_gap,) = node.process(Audio(noisy(10)[: RATE // 2], RATE, 2 * RATE))
    assert short.value["snr_db"] is None
    assert second.value["snr_db"] is not None
    assert after_gap.value["snr_db"] is None
    assert (after_gap.at, after_gap.until) == (2.0, 2.5)
