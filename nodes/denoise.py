"""Denoise: speech without its background noise, by RNNoise."""

from __future__ import annotations

import attrs

from nodes.bases.filter_node import Filter, FilterNode
from nodes.bases.frame_filter import FrameFilter, framewise_delay, require_convertible
from nodes.libraries.rnnoise import RNNoise, load_rnnoise

__all__ = ["Denoise"]


@attrs.define
class Denoise(FilterNode):
    """Remove background noise from speech with RNNoise, a recurrent neural network.

    Source: J.-M. Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement", 2018, in the
    C library of xiph.org that the `denoise` extra installs with its model. Any format, rate and channel count; each
    channel is denoised separately. Music is taken for noise.

    The network works at 48 kHz on frames of 10 ms, and lags by 20 ms. Other rates are converted to 48 kHz and back with
    libsamplerate's `sinc_fastest`, which keeps four fifths of the band. The lag is compensated: samples keep their
    positions and come later by `delay`. Samples beyond full scale are clipped. The node runs in a thread, and takes
    about a twentieth of real time for each channel.
    """

    extra = "denoise"
    placement = "thread"

    def __attrs_post_init__(self) -> None:
        load_rnnoise()

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        """Make RNNoise for each channel, with the rate conversion around it."""
        require_convertible(sample_rate, RNNoise.sample_rate)
        return FrameFilter(sample_rate, channels, RNNoise(channels))

    @property
    def delay(self) -> float:
        """30 ms for the network and its frames, plus the delay of the rate conversion, in seconds."""
        frames = RNNoise.delay_frames + RNNoise.frame_length
        return framewise_delay(self.sample_rate, RNNoise.sample_rate, frames)
