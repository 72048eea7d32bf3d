"""WAV and JSON-lines files of the nodes' outputs, written as the results arrive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import attrs
import soundfile

from engine.messages import Result
from nodes.contract import Audio

__all__ = ["OutputFiles", "Written"]

_SUBTYPES = {"f32": "FLOAT", "i16": "PCM_16", "i32": "PCM_32"}


@attrs.define
class Written:
    """Output file, as the summary describes it."""

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
    """Writes the nodes' outputs to `<node>.wav` and `<node>.jsonl` in a directory, which is created if missing.

    A file is created by its node's first output. In file names, all characters of a node's id except letters, digits,
    `_`, `.`, `-` and `~` are percent-encoded.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._audio: dict[str, Any] = {}
        self._data: dict[str, TextIO] = {}
        self.written: dict[Path, Written] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, result: Result) -> None:
        """Append the outputs of one result.

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
                f"cannot continue {path}: node {node!r} now emits {audio.channels} channels at"
                f" {audio.sample_rate} Hz, and before {file.channels} at {file.samplerate} Hz"
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
        """Close every file."""
        for file in (*self._audio.values(), *self._data.values()):
            file.close()
