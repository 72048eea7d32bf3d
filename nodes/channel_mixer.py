"""ChannelMixer: channels chosen, copied or mixed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs
import numpy as np

from nodes.contract import MAX_CHANNELS, Audio, InvalidInput, Node, Samples, parameter
from nodes.dsp.blocks import require_finite

__all__ = ["ChannelMixer", "fitted"]

_HALF_POWER = math.sqrt(0.5)
_FIVE_ONE_TO_STEREO = np.array([[1, 0, _HALF_POWER, 0, _HALF_POWER, 0], [0, 1, _HALF_POWER, 0, 0, _HALF_POWER]]) / (
    1 + 2 * _HALF_POWER
)
"""ITU-R BS.775 for left, right, centre, LFE, left and right surround; without LFE, scaled so that it cannot clip."""


@attrs.define
class ChannelMixer(Node):
    """Choose, copy or mix channels; set exactly one of the three parameters.

    `channels` follows these rules, and rejects a block that none of them fits:

    * the same number: the block passes unchanged;
    * one to many: copies;
    * many to one: the mean;
    * six (5.1) to two: ITU-R BS.775, without LFE, scaled down so that it cannot clip;
    * any other increase: the channels of the input, then silent ones.

    `pick` copies channels by index, in any order, also repeatedly. `matrix` has one row for each output channel, with
    one factor for each input channel. Picking and copying keep every bit; mixing keeps 24 significant bits, clips
    integers at full scale, and clips float32 only where it would overflow.
    """

    channels: int | None = parameter(None, help="number of output channels", at_least=1, at_most=MAX_CHANNELS)
    pick: list[int] | None = parameter(None, help="indexes of the input channels to output, from 0")
    matrix: list[list[float]] | None = parameter(
        None, help="factors: one row for each output channel, one column for each input channel"
    )
    _factors: Samples | None = attrs.field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        given = [name for name in ("channels", "pick", "matrix") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of channels, pick and matrix must be set, got {' and '.join(given) or 'none'}"
            )
        if self.pick is not None and not _is_pick(self.pick):
            raise ValueError(f"pick must be 1 to {MAX_CHANNELS} indexes from 0, got {self.pick}")
        if self.matrix is not None:
            self._factors = _as_matrix(self.matrix)

    def process(self, item: Audio) -> Iterable[Audio]:
        """Remix one block of shape (n, channels).

        Raises:
          InvalidInput: the block's channel count does not fit the parameters, or it holds NaN or infinity.
        """
        require_finite(item)
        if self._factors is not None:
            return (_mixed(item, self._factors),)
        if self.pick is not None:
            return (_picked(item, self.pick),)
        assert self.channels is not None
        return (fitted(item, self.channels),)


def _is_pick(pick: list[int]) -> bool:
    return 1 <= len(pick) <= MAX_CHANNELS and all(0 <= index < MAX_CHANNELS for index in pick)


def _as_matrix(rows: list[list[float]]) -> Samples:
    columns = len(rows[0]) if rows else 0
    if not (1 <= len(rows) <= MAX_CHANNELS and 1 <= columns <= MAX_CHANNELS):
        raise ValueError(f"matrix must have 1 to {MAX_CHANNELS} rows and columns")
    if any(len(row) != columns for row in rows):
        raise ValueError("matrix must have rows of equal length")
    factors = np.array(rows, np.float64)
    if not (np.abs(factors) <= 1e6).all():
        raise ValueError("matrix must have factors from -1e6 to 1e6")
    return factors


def fitted(audio: Audio, channels: int) -> Audio:
    """Return the block with this number of channels, by the rules of `ChannelMixer.channels`.

    Raises:
      InvalidInput: none of the rules fits.
    """
    there = audio.channels
    if there == channels:
        return audio
    if there == 1:
        return _picked(audio, [0] * channels)
    if channels == 1:
        return _mixed(audio, np.full((1, there), 1.0 / there))
    if (there, channels) == (6, 2):
        return _mixed(audio, _FIVE_ONE_TO_STEREO)
    if there < channels:
        padded = np.zeros((len(audio.frames), channels), audio.frames.dtype)
        padded[:, :there] = audio.frames
        return Audio(padded, audio.sample_rate, audio.start)
    raise InvalidInput(f"no rule to make {channels} channels of {there}: use pick or matrix")


def _picked(audio: Audio, pick: list[int]) -> Audio:
    if max(pick) >= audio.channels:
        raise InvalidInput(f"pick has channel {max(pick)}, the block has channels 0 to {audio.channels - 1}")
    return Audio(audio.frames[:, pick], audio.sample_rate, audio.start)


def _mixed(audio: Audio, factors: Samples) -> Audio:
    if factors.shape[1] != audio.channels:
        raise InvalidInput(f"matrix has {factors.shape[1]} columns, the block has {audio.channels} channels")
    mixed = audio.as_float32().astype(np.float64) @ factors.T
    largest = float(np.finfo(np.float32).max)
    return audio.derive(mixed.clip(-largest, largest, mixed).astype(np.float32))
