"""Pipecat's wire format: the two kinds of its protobuf `Frame` needed here (pipecat/frames/frames.proto)."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.load.script import Kind, Script
from benchmarks.load.websocket_wire import WebSocketWire

__all__ = ["found_in", "kind_of", "speech_script"]

_AUDIO, _MESSAGE = 2, 4  # fields of Frame
_SAMPLES, _SAMPLE_RATE, _CHANNELS = 3, 4, 5  # of AudioRawFrame
_DATA = 1  # of MessageFrame
_LENGTH_DELIMITED = 2


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def _content(data: bytes, number: int) -> bytes:
    """Return the value of a message's only field."""
    at = len(_varint(number << 3 | _LENGTH_DELIMITED))
    while data[at] & 0x80:
        at += 1
    return data[at + 1 :]


def kind_of(message: bytes) -> Kind:
    """Return the kind of a frame from the server."""
    return Kind.ANSWER if message[0] == _MESSAGE << 3 | _LENGTH_DELIMITED else Kind.OTHER


def found_in(message: bytes) -> dict[str, Any]:
    """Return the JSON object of a message frame."""
    found: dict[str, Any] = json.loads(_content(_content(message, _MESSAGE), _DATA))
    return found


def audio_frame(samples: bytes, sample_rate: int) -> bytes:
    """Encode mono i16 audio as a client sends it."""
    audio = _field(_SAMPLES, samples) + _field(_SAMPLE_RATE, sample_rate) + _field(_CHANNELS, 1)
    return _field(_AUDIO, audio)


def speech_script(chunks: tuple[bytes, ...], sample_rate: int, sample_every: int = 0) -> Script:
    """Make the script of a session that streams mono i16 audio."""
    return Script(
        path="/",
        connect=WebSocketWire,
        calls_per_connection=1,
        chunks=tuple(audio_frame(samples, sample_rate) for samples in chunks),
        kind_of=kind_of,
        sample_every=sample_every,
    )
