"""Audio files in; WAV and JSON-lines files out. Never a whole file in memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TextIO
from urllib.parse import quote

import attrs
import numpy as np
import soundfile

from engine.cli.failures import BadInput
from engine.messages import Result
from nodes.contract import MAX_CHANNELS, MAX_SAMPLE_RATE, Audio, SampleFormat, from_float32

__all__ = ["AudioFile", "OutputFiles", "Written", "open_audio"]

_SUBTYPES = {"f32": "FLOAT", "i16": "PCM_16", "i32": "PCM_32"}


@attrs.frozen(eq=False)
class AudioFile:
    """An open audio file.

    Attributes:
      name: for people.
      sample_rate: in Hz.
      frames: how many it says it has.
    """

    name: str
    sample_rate: int
    channels: int
    frames: int
    _file: Any

    @property
    def duration_s(self) -> float:
        """Its length by its own account."""
        return self.frames / self.sample_rate

    def read(self, n_frames: int, sample_format: SampleFormat) -> Audio:
        """The next frames, fewer at the end; integers are clipped, not wrapped.

        Raises:
          soundfile.SoundFileError: the file is damaged here.
          BadInput: samples are not finite, and integers are asked for.
        """
        frames = self._file.read(n_frames, dtype="float32", always_2d=True)
        if sample_format != "f32" and not np.isfinite(frames).all():
            raise BadInput(f"{self.name} has samples that are not finite numbers; they cannot go as {sample_format}")
        return Audio(from_float32(frames, sample_format), self.sample_rate)


@contextlib.contextmanager
def open_audio(source: Path | IO[bytes], name: str = "") -> Iterator[AudioFile]:
    """Open anything that soundfile reads.

    Raises:
      BadInput: it is missing, or no audio, or of a form that no session takes.
    """
    name = name or str(source)
    try:
        if isinstance(source, Path):
            source.open("rb").close()  # says in words why it cannot be opened, which libsndfile does not
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


@attrs.define
class Written:
    """One output file: what it is, for the summary."""

    path: Path
    node: str
    lines: int = 0
    frames: int = 0
    sample_rate: int = 0

    def __str__(self) -> str:
        if self.sample_rate:
            return f"{self.path}  {self.frames / self.sample_rate:.2f} s at {self.sample_rate} Hz"
        return f"{self.path}  {self.lines} lines"


class OutputFiles:
    """Writes what the nodes give: `<node>.wav` and `<node>.jsonl`, in a directory that is made if it is not there.

    A file is made by its node's first output. In file names, what is no letter, digit, `_`, `.`, `-` or `~` in a
    node's id is percent-encoded.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._audio: dict[str, Any] = {}
        self._data: dict[str, TextIO] = {}
        self.written: dict[Path, Written] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, result: Result) -> None:
        """Add what one result has.

        Raises:
          OSError, soundfile.SoundFileError: a file cannot be written, or a node changed its audio's format.
        """
        for node, output in result.outputs.items():
            if output.audio is not None and len(output.audio.frames):
                self._write_audio(node, output.audio)
            if output.data is not None:
                line = {"sequence": result.sequence, "flush": result.flush, "data": dict(output.data.value)}
                self._write_line(node, json.dumps(line, ensure_ascii=False))

    def _write_audio(self, node: str, audio: Audio) -> None:
        path = self._path(node, ".wav")
        if (file := self._audio.get(node)) is None:
            file = self._audio[node] = soundfile.SoundFile(
                str(path),
                "w",
                samplerate=audio.sample_rate,
                channels=audio.channels,
                format="WAV",
                subtype=_SUBTYPES[audio.sample_format],
            )
            self.written[path] = Written(path, node, sample_rate=audio.sample_rate)
        if (file.samplerate, file.channels) != (audio.sample_rate, audio.channels):
            raise OSError(
                f"cannot go on with {path}: node {node!r} now gives {audio.channels} channels at"
                f" {audio.sample_rate} Hz, before {file.channels} at {file.samplerate} Hz"
            )
        file.write(audio.frames)
        self.written[path].frames += len(audio.frames)

    def _write_line(self, node: str, line: str) -> None:
        path = self._path(node, ".jsonl")
        if (file := self._data.get(node)) is None:
            file = self._data[node] = path.open("w", encoding="utf-8")
            self.written[path] = Written(path, node)
        file.write(line + "\n")
        self.written[path].lines += 1

    def _path(self, node: str, ending: str) -> Path:
        return self._directory / (quote(node, safe="") + ending)

    def close(self) -> None:
        """Finish every file."""
        for file in (*self._audio.values(), *self._data.values()):
            file.close()
