"""Conversion between `AudioBuffer` messages and the engine's `Audio`: a view when reading, one copy when writing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.errors import ChunkRefused
from nodes.contract import MAX_CHANNELS, MAX_SAMPLE_RATE, Audio, Samples
from protos import common_pb2 as pb

__all__ = ["decode_audio", "encode_audio"]

_LITTLE_ENDIAN = sys.byteorder == "little"  # like the wire: no byte swap needed
DTYPES: Mapping[int, np.dtype[Any]] = {
    pb.AUDIO_FORMAT_F32: np.dtype("<f4"),
    pb.AUDIO_FORMAT_I16: np.dtype("<i2"),
    pb.AUDIO_FORMAT_I32: np.dtype("<i4"),
}
FORMATS = {"f32": pb.AUDIO_FORMAT_F32, "i16": pb.AUDIO_FORMAT_I16, "i32": pb.AUDIO_FORMAT_I32}


def decode_audio(wire: pb.AudioBuffer) -> Audio:
    """View a buffer's samples as audio at position 0.

    Raises:
      ChunkRefused: a field is missing or out of range, or the sizes do not agree.
    """
    channels, count, sample_rate, samples = wire.channels, wire.num_samples, wire.sample_rate, wire.samples
    dtype = DTYPES.get(wire.format)
    if dtype is None:
        raise ChunkRefused(f"format must be F32 (1), I16 (2) or I32 (3), got {wire.format}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ChunkRefused(f"channels must be 1 to {MAX_CHANNELS}, got {channels}")
    if not 1 <= sample_rate <= MAX_SAMPLE_RATE:
        raise ChunkRefused(f"sample_rate must be 1 to {MAX_SAMPLE_RATE} Hz, got {sample_rate}")
    if len(samples) != count * dtype.itemsize:
        raise ChunkRefused(
            f"samples has {len(samples)} bytes, but num_samples = {count} of {dtype.itemsize} bytes each"
            f" make {count * dtype.itemsize}"
        )
    if count % channels:
        raise ChunkRefused(f"num_samples = {count} is not divisible by channels = {channels}")
    frames: Samples = np.ndarray((count // channels, channels), dtype, samples)
    return Audio(frames if _LITTLE_ENDIAN else frames.astype(dtype.newbyteorder("=")), sample_rate)


def encode_audio(audio: Audio, wire: pb.AudioBuffer) -> None:
    """Write audio into an empty buffer message."""
    frames = audio.frames
    form = FORMATS[audio.sample_format]
    wire.samples = (frames if _LITTLE_ENDIAN else frames.astype(DTYPES[form])).tobytes()
    wire.sample_rate = audio.sample_rate
    wire.channels = audio.channels
    wire.format = form
    wire.num_samples = frames.size
