"""Synthetic speech: syllables of gliding harmonics in noise, with pauses between phrases."""

from __future__ import annotations

import numpy as np
import webrtcvad

from tests.e2e.raw_messages import Samples


def speech(rate: int, seconds: float, seed: int = 7) -> Samples:
    """Make 16-bit mono speech, shape (n,): phrases of 0.6 s, three syllables each, with 0.4 s of noise after each."""
    rng = np.random.default_rng(seed)
    at = np.arange(int(rate * seconds)) / rate
    pitch_hz = 120 + 25 * np.sin(2 * np.pi * 0.9 * at)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 25) if 170 * k < rate / 2)
    syllable = np.maximum(np.sin(2 * np.pi * 5 * at), 0) ** 0.5
    envelope = np.where(at % 1.0 < 0.6, syllable, 0.0)
    sound = 0.2 * voice * envelope + 0.004 * rng.standard_normal(at.size)
    samples: Samples = np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16)
    return samples


def as_float(samples: Samples) -> Samples:
    """Convert 16-bit samples to float32, without loss."""
    scaled: Samples = (samples / np.float32(32768)).astype(np.float32)
    return scaled


def direct_decisions(samples: Samples, rate: int, aggressiveness: int = 2, frame_ms: int = 30) -> str:
    """Return the decisions of webrtcvad, called directly, on 16-bit mono: one character for each whole frame."""
    detector = webrtcvad.Vad(aggressiveness)
    size = rate * frame_ms // 1000
    whole = len(samples) - len(samples) % size
    frames = (samples[at : at + size].tobytes() for at in range(0, whole, size))
    return "".join("01"[detector.is_speech(frame, rate)] for frame in frames)
