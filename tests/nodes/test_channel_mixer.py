"""Rules, picks and matrices of ChannelMixer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.channel_mixer import ChannelMixer
from nodes.contract import Audio, InvalidInput
from tests.kits import check_node, signal


def mixed(frames: Any, **params: Any) -> np.ndarray[Any, Any]:
    (out,) = ChannelMixer(**params).process(Audio(frames, 8_000, 3))
    assert (out.sample_rate, out.start) == (8_000, 3)
    assert out.frames.dtype == frames.dtype
    return out.frames


FAULTS: list[dict[str, Any]] = [
    {"channels": None, "pick": None, "matrix": None},
    {"channels": 1, "pick": [0], "matrix": None},
    {"channels": 0, "pick": None, "matrix": None},
    {"channels": 129, "pick": None, "matrix": None},
    {"channels": None, "pick": [], "matrix": None},
    {"channels": None, "pick": [-1], "matrix": None},
    {"channels": None, "pick": None, "matrix": []},
    {"channels": None, "pick": None, "matrix": [[]]},
    {"channels": None, "pick": None, "matrix": [[1.0], [1.0, 2.0]]},
    {"channels": None, "pick": None, "matrix": [[float("nan")]]},
]


@pytest.mark.parametrize(
    ("channels", "params"),
    [
        ((1, 2, 128), {"channels": 1}),
        ((1, 6), {"channels": 2}),
        ((2, 3), {"pick": [1, 1, 0]}),
        ((2,), {"matrix": [[0.3, -0.7]]}),
    ],
)
def test_conforms(channels: tuple[int, ...], params: dict[str, Any]) -> None:
    check_node(lambda **others: ChannelMixer(**{**params, **others}), channels=channels, tolerance=1e-7, faults=FAULTS)


def test_picks_that_are_not_there_leave_no_trace() -> None:
    check_node(
        lambda: ChannelMixer(pick=[1]),
        channels=(2,),
        refuse=lambda block: Audio(block.frames[:, :1], block.sample_rate, block.start),
    )


def test_one_to_many_copies_every_bit() -> None:
    frames = np.array([[123_456_789], [-(2**31)]], np.int32)
    assert np.array_equal(mixed(frames, channels=3), np.repeat(frames, 3, axis=1))


def test_many_to_one_is_the_mean() -> None:
    frames = signal(50, 5)
    assert np.allclose(mixed(frames, channels=1)[:, 0], frames.mean(axis=1), atol=1e-6)
    assert mixed(np.array([[32_767, 32_767], [-32_768, -32_768]], np.int16), channels=1).tolist() == [
        [32_767],
        [-32_768],
    ]


def test_five_one_to_stereo_follows_bs_775() -> None:
    frames = np.eye(6, dtype=np.float32)
    scale = 1 / (1 + 2**0.5)
    third = 2**-0.5 * scale
    expected = [[scale, 0], [0, scale], [third, third], [0, 0], [third, 0], [0, third]]
    assert np.allclose(mixed(frames, channels=2), expected)
    assert mixed(np.full((1, 6), 32_767, np.int16), channels=2).tolist() == [[32_767, 32_767]]


def test_few_to_many_adds_silence() -> None:
    assert mixed(np.array([[1, 2]], np.int16), channels=4).tolist() == [[1, 2, 0, 0]]


def test_no_rule_is_refused() -> None:
    with pytest.raises(InvalidInput, match="3 channels of 5"):
        mixed(signal(4, 5), channels=3)


def test_picks_channels_in_the_given_order() -> None:
    assert mixed(np.array([[1, 2, 3]], np.int16), pick=[2, 0, 0]).tolist() == [[3, 1, 1]]


def test_a_matrix_is_multiplied() -> None:
    frames = signal(40, 3)
    matrix = [[0.5, -0.25, 0.0], [1.0, 1.0, 1.0]]
    assert np.allclose(mixed(frames, matrix=matrix), frames @ np.array(matrix).T, atol=1e-6)


def test_a_matrix_clips_integers_and_what_overflows() -> None:
    assert mixed(np.array([[30_000, 30_000]], np.int16), matrix=[[1, 1]]).tolist() == [[32_767]]
    largest = np.finfo(np.float32).max
    assert mixed(np.array([[largest, largest]], np.float32), matrix=[[1, 1]]).tolist() == [[largest]]


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2 columns"):
        mixed(signal(4, 3), matrix=[[1, 1]])
