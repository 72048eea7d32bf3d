"""Audio files, read block by block, so that a whole file is never in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import numpy as np
import soundfile

from engine.cli.common.failures import BadInput
from nodes.contract import MAX_CHANNELS, MAX_SAMPLE_RATE, Audio, SampleFormat, from_float32

__all__ = ["AudioFile", "open_audio"]


@attrs.frozen(eq=False)
class AudioFile:
    """Open audio file.

    Attributes:
      name: Name for messages.
      sample_rate: In Hz.
      frames: Number of frames, as the file's header states it.
    """

    name: str
    sample_rate: int
    channels: int
    frames: int
    _file: Any

    @property
    def duration_s(self) -> float:
        """Length of the file in seconds, as its header states it."""
        return self.frames / self.sample_rate

    def read(self, n_frames: int, sample_format: SampleFormat) -> Audio:
        """Read the next frames, fewer at the end of the file; integer samples are clipped, not wrapped.

        Raises:
          soundfile.SoundFileError: the file is damaged at this point.
          BadInput: samples are not finite, and `sample_format` is an integer format.
        """
        frames = self._file.read(n_frames, dtype="float32", always_2d=True)
        if sample_format != "f32" and not np.isfinite(frames).all():
            raise BadInput(
                f"{self.name} has samples that are not finite numbers; they cannot be sent as {sample_format}"
            )
        return Audio(from_float32(frames, sample_format), self.sample_rate)


@contextlib.contextmanager
def open_audio(source: Path | IO[bytes], name: str = "") -> Iterator[AudioFile]:
    """Open an audio file of any format that soundfile reads.

    Raises:
      BadInput: the file is missing, is not audio, or has a channel count or sample rate that no session takes.
    """
    name = name or str(source)
    try:
        if isinstance(source, Path):
            source.open("rb").close()  # raises an OSError with the reason, which libsndfile does not give
        file = soundfile.SoundFile(str(source) if isinstance(source, Path) else source)
    except OSError as error:
        raise BadInput(f"cannot read {name}: {error.strerror or error}") from None
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", "") or str(error)
        raise BadInput(f"{name} is not an audio file that can be read: {reason}") from None
    with file:
        if not 1 <= file.channels <= MAX_CHANNELS or not 0 < file.samplerate <= MAX_SAMPLE_RATE:
            raise BadInput(
                f"{name} has {file.channels} channels at {file.samplerate} Hz;"
                f" 1 to {MAX_CHANNELS} channels at up to {MAX_SAMPLE_RATE} Hz can be streamed"
            )
        yield AudioFile(name, file.samplerate, file.channels, file.frames, file)
