"""ChannelBalance on channels of known levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.channel_balance import ChannelBalance
from nodes.contract import Audio, InvalidInput
from tests.kits import check_node, cut, run

RATE = 16_000


def stereo(*parts: tuple[float, float, float]) -> Any:
    """Return square waves of (left dB, right dB, milliseconds)."""
    signs = np.where(np.arange(RATE) % 2, 1, -1)[:, None]
    levels = [10 ** (np.array([left, right]) / 20) * signs[: round(ms * 16)] for left, right, ms in parts]
    return np.concatenate(levels).astype(np.float32)


def found(*parts: tuple[float, float, float]) -> Any:
    node = ChannelBalance()
    return node.join(run(node, cut(stereo(*parts), [320] * 999, RATE)).data).value


def test_conforms() -> None:
    check_node(
        lambda **params: ChannelBalance(**{"hold_ms": 10.0, "release_ms": 10.0, "threshold_db": 2.5, **params}),
        rates=(16_000, 11_025),
        channels=(2,),
        length=None,
        findings=lambda value: (
            value
            and {
                name: round(each, 6) if isinstance(each, float) else each
                for name, each in value.items()
                if name != "duration_ms"
            }
        ),
        faults=[{"dead_db": -40}, {"threshold_db": 1}, {"hold_ms": -1}],
        refuse=lambda block: Audio(block.frames[:, :1], block.sample_rate, block.start),
    )


def test_levels_ratio_and_difference() -> None:
    value = found((-20, -26, 1_000))
    assert (value["left_rms_db"], value["right_rms_db"]) == pytest.approx((-20, -26), abs=1e-4)
    assert (value["imbalance_db"], value["balance_ratio"]) == pytest.approx((6, 10 ** (-6 / 20)), abs=1e-4)


def test_imbalance_lasts_and_is_no_dead_channel() -> None:
    value = found((-20, -20, 500), (-20, -30, 800), (-20, -25, 600), (-20, -20, 600))
    assert value["segments"] == [[500, 1_900]], "between the thresholds nothing must change"
    assert (value["is_imbalanced"], value["dead_channel"]) == (True, None)


def test_one_odd_chunk_raises_nothing() -> None:
    value = found((-20, -20, 500), (-20, -200, 100), (-20, -20, 500))
    assert not value["is_imbalanced"]
    assert not value["has_dead_channel"]


@pytest.mark.parametrize(("levels", "channel"), [((-200.0, -20.0), "left"), ((-20.0, -200.0), "right")])
def test_a_dead_channel_is_named(levels: tuple[float, float], channel: str) -> None:
    value = found((-20, -20, 500), (*levels, 700), (-200, -200, 900), (-20, -20, 600))
    assert (value["has_dead_channel"], value["dead_channel"]) == (True, channel)
    assert value[f"{channel}_dead_segments"] == [[500, 2_100]], "silence must change nothing"


def test_silence_on_both_is_balanced() -> None:
    value = found((-200, -200, 900))
    assert (value["balance_ratio"], value["is_imbalanced"], value["has_dead_channel"]) == (1, False, False)


def test_two_channels_are_needed() -> None:
    with pytest.raises(InvalidInput, match="this block has 1"):
        ChannelBalance().process(Audio(np.zeros((160, 1), np.int16), RATE))
