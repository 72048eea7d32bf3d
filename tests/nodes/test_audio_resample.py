"""AudioResample against one-shot libsamplerate and soxr, and against closed formulas."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
import samplerate
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.audio_resample import AudioResample
from nodes.contract import Audio, InvalidInput
from nodes.dsp.resampling import SincStream
from tests.kits import Outcome, blocks_of, check_node, cut, run, signal

SINC = ("sinc_fastest", "sinc_medium", "sinc_best")


def resampled(frames: Any, source: int, target: int, sizes: list[int] | None = None, **params: Any) -> Outcome:
    node = AudioResample(target_sample_rate=target, **params)
    return run(node, cut(frames, sizes or [], source))


@pytest.mark.parametrize(
    ("target", "rates", "params"),
    [
        (16_000, (48_000, 44_100, 16_000, 8_000), {}),
        (44_100, (48_000,), {"converter": "sinc_medium"}),
        (48_000, (16_000,), {"converter": "sinc_best"}),
        (16_000, (44_100, 11_025), {"converter": "linear"}),
        (16_000, (44_100, 11_025), {"converter": "zero_order_hold"}),
        (16_000, (44_100, 8_000), {"backend": "soxr"}),
    ],
)
def test_conforms(target: int, rates: tuple[int, ...], params: dict[str, Any]) -> None:
    check_node(
        lambda **others: AudioResample(**{"target_sample_rate": target, **params, **others}),
        rates=rates,
        tolerance=1e-6,
        settles_s=2.0,
        length=lambda n_frames, rate: n_frames * target // rate,
        refuse=lambda block: Audio(np.zeros((10, block.channels + 1), np.float32), block.sample_rate, block.start),
        faults=[
            {"target_sample_rate": 0},
            {"target_sample_rate": 768_001},
            {"converter": "cubic"},
            {"backend": "sox"},
            {"quality": "best"},
        ],
    )


sizes = st.lists(st.integers(0, 2_000), max_size=12)
rates = st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 7_919])


@settings(max_examples=60)
@given(
    sizes,
    rates,
    rates,
    st.sampled_from([{"converter": name} for name in (*SINC[:2], "linear", "zero_order_hold")] + [{"backend": "soxr"}]),
    st.integers(0, 6_000),
)
def test_any_cut_gives_the_same_samples_and_the_exact_length(
    cuts: list[int], source: int, target: int, params: dict[str, Any], n_frames: int
) -> None:
    frames = signal(n_frames, rate=source)
    whole = resampled(frames, source, target, **params)
    pieces = resampled(frames, source, target, cuts, **params)
    assert whole.n_frames == pieces.n_frames == n_frames * target // source
    for (_, one), (_, other) in zip(whole.runs, pieces.runs, strict=True):
        assert np.allclose(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("converter", SINC)
@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (8_000, 11_025)])
def test_chunked_equals_one_shot_libsamplerate(converter: str, source: int, target: int) -> None:
    frames = signal(20_000, 2, rate=source)
    expected = samplerate.resample(frames, target / source, converter)
    ((start, given_frames),) = resampled(frames, source, target, [source // 50] * 100, converter=converter).runs
    common = min(len(expected), len(given_frames))
    assert start == 0
    assert common >= len(frames) * target // source - 1
    assert np.abs(given_frames[:common] - expected[:common]).max() <= 1e-6


@pytest.mark.parametrize(
    ("source", "target", "converter", "sizes"),
    [
        (32_000, 16_000, "sinc_medium", [1, 1, 1656, 2212, 1, 1, 2356]),
        (96_000, 8_000, "sinc_fastest", [122, 371, 287]),
        (48_000, 16_000, "sinc_fastest", [960]),
        (44_100, 16_000, "sinc_medium", [441, 882, 700]),
    ],
)
def test_no_frame_is_lost_where_the_librarys_ring_buffer_ends(
    source: int, target: int, converter: str, sizes: list[int]
) -> None:
    sent = np.random.default_rng(0).uniform(-0.5, 0.5, 200_000).astype(np.float32)
    stream, at, parts = SincStream(source, target, 1, converter), 0, []
    for size in itertools.cycle(sizes):
        parts.append(stream.push(sent[at : at + size, None]))
        at += size
        if at >= len(sent):
            break
    ours, theirs = np.concatenate(parts)[:, 0], samplerate.resample(sent, target / source, converter)
    np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("quality", ["LQ", "HQ", "VHQ"])
def test_chunked_equals_one_shot_soxr(quality: str) -> None:
    frames = signal(20_000, 2, rate=44_100)
    expected = soxr.resample(frames, 44_100, 16_000, quality)
    ((_, given_frames),) = resampled(frames, 44_100, 16_000, [882] * 100, backend="soxr", quality=quality).runs
    common = min(len(expected), len(given_frames))
    assert common >= len(frames) * 16_000 // 44_100 - 1
    assert np.abs(given_frames[:common] - expected[:common]).max() <= 1e-6


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (16_000, 44_100), (44_100, 44_000)])
def test_linear_and_hold_follow_their_formulas(source: int, target: int) -> None:
    frames = signal(3_000, rate=source)
    places = np.arange(3_000 * target // source) * source / target
    ((_, line),) = resampled(frames, source, target, [7, 1, 500], converter="linear").runs
    assert np.allclose(line[:, 0], np.interp(places, np.arange(3_000), frames[:, 0]), atol=1e-5)
    ((_, hold),) = resampled(frames, source, target, [7, 1, 500], converter="zero_order_hold").runs
    before = np.arange(3_000 * target // source) * source // target
    assert np.array_equal(hold, frames[before])


def test_a_tone_stays_the_tone_at_its_place() -> None:
    seconds = np.arange(48_000)[:, None] / 48_000
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    ((_, given_frames),) = resampled(tone, 48_000, 16_000, [960] * 50, converter="sinc_best").runs
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(given_frames[500:-500, 0] - expected[500:-500]).max() < 1e-3


def test_equal_rates_pass_the_same_block_without_delay() -> None:
    node, block = AudioResample(target_sample_rate=16_000), Audio(signal(160), 16_000, 99)
    assert list(node.process(block)) == [block]
    assert node.delay == 0.0


@pytest.mark.parametrize(
    ("source", "params"), [(48_000, {}), (16_000, {}), (48_000, {"backend": "soxr"}), (48_000, {"converter": "linear"})]
)
def test_a_gap_keeps_positions_and_smears_nothing_over_it(source: int, params: dict[str, Any]) -> None:
    frames = signal(4_800, rate=source)
    later = 30_000
    node = AudioResample(target_sample_rate=16_000, **params)
    both = run(node, blocks_of([(0, frames), (later, frames)], [960] * 9, source))
    assert [start for start, _ in both.runs] == [0, later * 16_000 // source]
    alone = resampled(frames, source, 16_000, **params).runs[0][1]
    for _, given_frames in both.runs:
        assert np.allclose(given_frames, alone, atol=1e-6)


def test_one_frame_off_is_no_gap_and_does_not_add_up() -> None:
    node = AudioResample(target_sample_rate=16_000)
    frames = signal(960, rate=48_000)
    list(node.process(Audio(frames, 48_000, 0)))
    for start in (961, 1_919):
        (block,) = node.process(Audio(frames, 48_000, start))
        assert len(block.frames) == 320
    assert len(list(node.process(Audio(frames, 48_000, 2_882)))) == 2  # two frames off: the tail and a new stretch


@pytest.mark.parametrize("rate", [100, 48_000 * 257])
def test_a_ratio_beyond_256_is_refused_with_both_rates(rate: int) -> None:
    node = AudioResample(target_sample_rate=48_000 if rate == 100 else 187)
    with pytest.raises(InvalidInput, match=r"100 Hz to 48000 Hz|48000 Hz to 187 Hz"):
        list(node.process(Audio(signal(10), min(rate, 48_000), 0)))
    assert node.memory_bytes == 0


def test_ratios_of_256_work() -> None:
    assert resampled(signal(2_560, rate=256_000), 256_000, 1_000).n_frames == 10
    assert resampled(signal(10, rate=1_000), 1_000, 256_000).n_frames == 2_560


def test_a_change_of_rate_or_going_back_is_refused() -> None:
    node = AudioResample(target_sample_rate=16_000)
    list(node.process(Audio(signal(960), 48_000, 960)))
    for block in (Audio(signal(960), 44_100, 1_920), Audio(signal(960), 48_000, 1_900)):
        with pytest.raises(InvalidInput):
            list(node.process(block))
    assert list(node.process(Audio(signal(960), 48_000, 1_920)))


def test_many_channels_are_converted_each_by_itself() -> None:
    frames = signal(2_000, 128, rate=48_000)
    ((_, given_frames),) = resampled(frames, 48_000, 16_000, [960]).runs
    alone = resampled(frames[:, 77:78], 48_000, 16_000).runs[0][1]
    assert np.allclose(given_frames[:, 77:78], alone, atol=1e-6)


def test_overshoot_clips_instead_of_wrapping_or_overflowing() -> None:
    square = np.where(np.arange(4_800)[:, None] // 50 % 2, 32_767, -32_768).astype(np.int16)
    ((_, ints),) = resampled(square, 48_000, 16_000).runs
    assert (np.sign(ints[40:-40:50, 0]) != 0).all()
    reference = resampled((square / 32_768).astype(np.float32), 48_000, 16_000).runs[0][1]
    assert np.abs(ints / 32_768 - np.clip(reference, -1, 1)).max() < 1e-4
    largest = np.where(square > 0, 1, -1).astype(np.float32) * np.finfo(np.float32).max
    assert np.isfinite(resampled(largest, 48_000, 16_000).runs[0][1]).all()


@pytest.mark.parametrize("converter", [*SINC, "linear", "zero_order_hold"])
@pytest.mark.parametrize("source", [8_000, 48_000])
def test_delay_is_a_bound_before_and_what_is_held_back_after(converter: str, source: int) -> None:
    node = AudioResample(target_sample_rate=16_000, converter=converter)
    before = node.delay
    outcome = run(AudioResample(target_sample_rate=16_000, converter=converter), cut(signal(9_600), [80] * 200, source))
    list(node.process(Audio(signal(8), source, 0)))
    assert node.delay <= before
    assert node.delay - 3 / min(source, 16_000) <= outcome.lag <= node.delay + 1 / min(source, 16_000)


def test_soxr_that_is_missing_is_a_fault_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ValueError, match=r"headrace\[soxr\]"):
        AudioResample(target_sample_rate=16_000, backend="soxr")
    AudioResample(target_sample_rate=16_000)
