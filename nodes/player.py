"""Player: the audio of a file in the operator's directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
import soundfile

from nodes.bases.clocked import played_over
from nodes.bases.directory_node import DirectoryNode, open_file, require_plain_name
from nodes.channel_mixer import fitted
from nodes.contract import Audio, Float32, Kind, parameter
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format, scaled
from nodes.dsp.resampling import SincStream

__all__ = ["Player"]

_BLOCK_FRAMES = 4_096


class _Playback:
    """A file, played with the rate and channels of its clock from the position where the clock began."""

    def __init__(self, path: Path, clock: Audio, loop: bool) -> None:
        self.format: StreamFormat = (clock.sample_rate, clock.channels)
        self.origin = self.position = clock.start
        self._loop = loop
        self._file = soundfile.SoundFile(open_file(path, os.O_RDONLY))
        try:
            self._fit(np.zeros((1, self._file.channels), np.float32))
            self._converter = self._make_converter()
        except BaseException:
            self._file.close()
            raise
        self._held = np.zeros((0, clock.channels), np.float32)
        self._is_over = not self._file.frames

    def _make_converter(self) -> SincStream | None:
        source, (target, channels) = self._file.samplerate, self.format
        return None if source == target else SincStream(source, target, channels)

    def _fit(self, frames: Float32) -> Float32:
        return fitted(Audio(frames, self._file.samplerate), self.format[1]).as_float32()

    def seek(self, position: int) -> None:
        """Skip to a later position of the clock; the part of the file before it is not played."""
        at = (position - self.origin) * self._file.samplerate // self.format[0]
        self._is_over = not self._file.frames or (at >= self._file.frames and not self._loop)
        if not self._is_over:
            self._file.seek(at % self._file.frames)
        self._converter, self._held = self._make_converter(), self._held[:0]
        self.position = position

    def take(self, count: int) -> Float32:
        """Return the next frames, shape (count, channels); silence after the end of the file."""
        parts, there = [self._held], len(self._held)
        while there < count and not self._is_over:
            parts.append(self._read())
            there += len(parts[-1])
        parts.append(np.zeros((max(0, count - there), self.format[1]), np.float32))
        frames = np.concatenate(parts)
        self._held = frames[count:].copy()
        self.position += count
        return frames[:count]

    def _read(self) -> Float32:
        frames = self._file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        if len(frames):
            given = self._fit(frames)
            return given if self._converter is None else self._converter.push(given)
        if self._loop:
            self._file.seek(0)
            return self._held[:0]
        self._is_over = True
        return self._held[:0] if self._converter is None else self._converter.flush()

    @property
    def memory_bytes(self) -> int:
        return self._held.nbytes + (self._converter.memory_bytes if self._converter else 0)

    def close(self) -> None:
        self._file.close()


@attrs.define
class Player(DirectoryNode):
    """Play a file from the directory that the operator allows (`--media DIR`), in place of the input or on top of it.

    The input is the clock: it sets the length, position, rate and format of the output. The file begins with the first
    block; after its end there is silence, or it begins again (`loop`). A gap in the input skips that part of the file.
    The node reads all formats of libsndfile (WAV, FLAC, OGG, MP3 ...), piece by piece. Other rates are converted by
    libsamplerate (`sinc_fastest`), channels as in ChannelMixer's `channels`. The node runs in a thread, because reading
    blocks.
    """

    file: str = parameter(help="name of the file")
    gain_db: float = parameter(0.0, help="amplification of the file, in dB", at_least=-120, at_most=120)
    loop: bool = parameter(False, help="begin the file again at its end")
    mix: bool = parameter(False, help="add to the input instead of replacing it")
    _playback: _Playback | None = attrs.field(init=False, default=None, repr=False)

    takes = Kind.AUDIO
    gives = Kind.AUDIO
    option = "--media DIR"

    def __attrs_post_init__(self) -> None:
        require_plain_name(self.file)

    def connect(self, upstreams: Sequence[str]) -> None:
        """Check that there is a file to play.

        Raises:
          ValueError: no directory is allowed, or the file is not in it.
        """
        super().connect(upstreams)
        assert self.directory is not None
        if not (self.directory / self.file).is_file():
            raise ValueError(f"file: there is no {self.file!r} to play")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Play the file for the length of one block.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, or the file cannot be converted to it; the
            block begins before the end of the previous one; or, with `mix`, it holds NaN or infinity.
        """
        if self.mix:
            require_finite(item)
        if self._playback is not None:
            require_format(item, self._playback.format)
        if not len(item.frames):
            return (item,)
        assert self.directory is not None
        playback = self._playback = self._playback or _Playback(self.directory / self.file, item, self.loop)
        if not continues(item, playback.position):
            playback.seek(item.start)
        played = scaled(playback.take(len(item.frames)), 10 ** (self.gain_db / 20))
        return (played_over(item, played, self.mix),)

    def finish(self) -> Iterable[Audio]:
        """Stop; the next block begins the file again."""
        self.close()
        self._playback = None
        return ()

    def close(self) -> None:
        """Close the file."""
        if self._playback is not None:
            self._playback.close()

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the audio that is read but not played yet, and of the converter's buffers."""
        return 0 if self._playback is None else self._playback.memory_bytes
