"""AudioFormatConverter: samples in float32, int16 or int32."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from nodes.contract import Audio, Node, SampleFormat, Samples, parameter
from nodes.dsp.blocks import require_finite

__all__ = ["AudioFormatConverter"]

_FULL_SCALE = {"i16": 2.0**15, "i32": 2.0**31}
_SEED = 0x48_65_61_64


@attrs.define
class AudioFormatConverter(Node):
    """Convert audio to another sample format: the same amplitudes, rounded to nearest and clipped, never wrapped.

    An amplitude of 1.0 is 2^15 in int16 and 2^31 in int32, so 1.0 itself clips to the greatest integer. int16 to
    int32, and int16 to float32 and back, lose nothing; int32 to int16 is rounded once; int32 to float32 keeps 24
    significant bits. A block that already has the format passes unchanged.

    With `dither`, float32 and int32 samples get triangular noise of ±1 step before they are rounded to int16, so that
    the rounding error is noise and not distortion (Lipshitz, Wannamaker and Vanderkooy, 1992). The noise is the same in
    every run and does not depend on how the stream is cut.
    """

    target_format: SampleFormat = parameter(help="sample format of the output", choices=("f32", "i16", "i32"))
    dither: bool = parameter(False, help="add triangular noise where i16 loses resolution")
    _noise: list[np.random.Generator] = attrs.field(init=False, factory=list, repr=False)

    def process(self, item: Audio) -> Iterable[Audio]:
        """Convert one block of shape (n, channels).

        Raises:
          InvalidInput: a sample is NaN or infinite, and the output is of integers.
        """
        if item.sample_format == self.target_format:
            return (item,)
        if self.target_format == "f32":
            return (Audio(item.as_float32(), item.sample_rate, item.start),)
        require_finite(item)
        return (Audio(self._integers(item), item.sample_rate, item.start),)

    def _integers(self, item: Audio) -> Samples:
        full_scale = _FULL_SCALE[self.target_format]
        from_scale = _FULL_SCALE.get(item.sample_format, 1.0)
        steps = item.frames * np.float64(full_scale / from_scale)
        if self.dither and self.target_format == "i16":
            steps += self._triangular(steps.shape)
        np.rint(steps, steps).clip(-full_scale, full_scale - 1, steps)
        return steps.astype(np.int16 if self.target_format == "i16" else np.int32)

    def _triangular(self, shape: tuple[int, ...]) -> Samples:
        """Return the next noise: for each sample, the difference of two uniform random numbers."""
        if not self._noise:
            self._noise.append(np.random.Generator(np.random.PCG64(_SEED)))
        uniform = self._noise[0].random((*shape, 2))
        triangular: Samples = uniform[..., 0] - uniform[..., 1]
        return triangular

    def finish(self) -> Iterable[Audio]:
        """Restart the noise."""
        self._noise.clear()
        return ()
