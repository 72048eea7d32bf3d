"""Denoise: speech without its background noise, by RNNoise."""

from __future__ import annotations

import attrs

from nodes.bases.filter_node import Filter, FilterNode
from nodes.bases.frame_filter import FrameFilter, framewise_delay, require_convertible
from nodes.libraries.rnnoise import RNNoise, load_rnnoise

__all__ = ["Denoise"]


@attrs.define
class Denoise(FilterNode):
    """Take background noise out of speech with RNNoise, a recurrent neural network.

    Source: J.-M. Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement", 2018, in the
    C library of xiph.org that the `denoise` extra brings with its model. Takes and gives audio of any format, rate and
    channel count, each channel denoised on its own; music is taken for noise.

    The network works at 48 kHz on frames of 10 ms, and lags by 20 ms; other rates are converted there and back with
    libsamplerate's `sinc_fastest`, which keeps four fifths of the band. The lag is compensated, so samples come out at
    their positions, later by `delay`. What lies beyond full scale is clipped. Works in a thread, at about a twentieth
    of real time for each channel.
    """

    extra = "denoise"
    placement = "thread"

    def __attrs_post_init__(self) -> None:
        load_rnnoise()

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        """RNNoise for every channel, and the rate conversion around it."""
        require_convertible(sample_rate, RNNoise.sample_rate)
        return FrameFilter(sample_rate, channels, RNNoise(channels))

    @property
    def delay(self) -> float:
        """30 ms for the network and its frames, and what the rate conversion holds back, in seconds."""
        frames = RNNoise.delay_frames + RNNoise.frame_length
        return framewise_delay(self.sample_rate, RNNoise.sample_rate, frames)
