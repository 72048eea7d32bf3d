"""Recorder: a tap that writes the stream to a WAV file."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import soundfile

from nodes.bases.directory_node import DirectoryNode, open_file, require_plain_name
from nodes.contract import Audio, Data, InvalidInput, Kind, parameter
from nodes.dsp.blocks import StreamFormat, require_format

__all__ = ["Recorder"]

_SUBTYPES = {"f32": "FLOAT", "i16": "PCM_16", "i32": "PCM_32"}
_SAMPLE_BYTES = {"f32": 4, "i16": 2, "i32": 4}


class _Recording:
    """A file that is being written, bit for bit, up to a number of frames."""

    def __init__(self, directory: Path, name: str, first: Audio, most_frames: int) -> None:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.file_name = f"{name}-{moment}-{secrets.token_hex(4)}.wav"
        self.format: StreamFormat = (first.sample_rate, first.channels)
        self.sample_format = first.sample_format
        self.start = self.stop = first.start
        self.frames = 0
        self.is_truncated = False
        self._most_frames = most_frames
        descriptor = open_file(directory / self.file_name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        subtype = _SUBTYPES[first.sample_format]
        self._file = soundfile.SoundFile(descriptor, "w", first.sample_rate, first.channels, subtype, format="WAV")

    def require(self, audio: Audio) -> None:
        require_format(audio, self.format)
        if audio.sample_format != self.sample_format:
            raise InvalidInput(f"the recording is {self.sample_format}, this block is {audio.sample_format}")
        if audio.start < self.stop:
            raise InvalidInput(f"the block starts at frame {audio.start}, the stream is at frame {self.stop}")

    def write(self, audio: Audio, *, silence: bool) -> None:
        gap, self.stop = audio.start - self.stop, audio.stop
        while silence and gap > 0 and not self.is_truncated:
            step = min(gap, audio.sample_rate)
            self._put(np.zeros((step, audio.channels), audio.frames.dtype))
            gap -= step
        self._put(audio.frames)

    def _put(self, frames: np.ndarray[Any, Any]) -> None:
        room = self._most_frames - self.frames
        self.is_truncated |= len(frames) > room
        self._file.write(frames[:room])
        self.frames += min(len(frames), room)

    def close(self) -> None:
        self._file.close()


@attrs.define
class Recorder(DirectoryNode):
    """Write the audio to a WAV file, bit for bit, in the directory that the operator allows (`--recordings DIR`).

    Each stream, up to its end or a FLUSH, becomes one file, `NAME-TIME-RANDOM.wav`, which is created with the first
    block. It has the stream's sample format. A gap is written as silence, so that times in the file are those of the
    stream, or left out. At the end there is a data item: `file` (its name), `frames`, `duration_s`, and `truncated`:
    true if audio was left out, because of `max_seconds` or the room in the directory when the recording began (10 GB in
    all, `--max-recordings-mb`). If there is no room, the audio is rejected. However a session ends, the file is closed
    properly. The node runs in a thread, because writing blocks.
    """

    name: str = parameter("recording", help="beginning of the file's name")
    max_seconds: float = parameter(3_600.0, help="longest recording, in s", above=0, at_most=86_400)
    gaps: str = parameter("silence", help="treatment of gaps in the stream", choices=("silence", "skip"))
    _recording: _Recording | None = attrs.field(init=False, default=None, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA
    option = "--recordings DIR"
    max_directory_bytes: ClassVar[int] = 10_000_000_000

    def __attrs_post_init__(self) -> None:
        require_plain_name(self.name)

    def process(self, item: Audio) -> Iterable[Data]:
        """Write one block.

        Raises:
          InvalidInput: the sample rate, channel count or sample format is not the recording's, the block begins before
            the end of the previous one, or there is no room for a recording.
        """
        if self._recording is not None:
            self._recording.require(item)
        if len(item.frames):
            self._recording = self._recording or self._begin(item)
            self._recording.write(item, silence=self.gaps == "silence")
        return ()

    def _begin(self, first: Audio) -> _Recording:
        assert self.directory is not None
        with os.scandir(self.directory) as entries:
            used = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        room = (self.max_directory_bytes - used) // (first.channels * _SAMPLE_BYTES[first.sample_format])
        if room <= 0:
            raise InvalidInput("the directory for recordings is full")
        most_frames = min(room, round(self.max_seconds * first.sample_rate))
        return _Recording(self.directory, self.name, first, most_frames)

    def finish(self) -> Iterable[Data]:
        """Close the file, and report it."""
        recording, self._recording = self._recording, None
        if recording is None:
            return ()
        recording.close()
        rate = recording.format[0]
        value = {
            "file": recording.file_name,
            "frames": recording.frames,
            "duration_s": recording.frames / rate,
            "truncated": recording.is_truncated,
        }
        return (Data(value, recording.start / rate, recording.stop / rate),)

    def close(self) -> None:
        """Close the file, if one is being written."""
        if self._recording is not None:
            self._recording.close()

    def custom_metrics(self) -> Mapping[str, Any]:
        """Return the name of the file that is being written, and its frames so far."""
        recording = self._recording
        return {} if recording is None else {"file": recording.file_name, "frames": recording.frames}
