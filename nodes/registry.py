"""The built-in nodes, by the names that manifests use."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from nodes.accumulator import Accumulator
from nodes.audio_format_converter import AudioFormatConverter
from nodes.audio_level import AudioLevel
from nodes.audio_resample import AudioResample
from nodes.butterworth import BandPass, HighPass, LowPass
from nodes.calculator import Calculator
from nodes.channel_balance import ChannelBalance
from nodes.channel_merge import ChannelMerge
from nodes.channel_mixer import ChannelMixer
from nodes.channel_split import ChannelSplit
from nodes.chunker import Chunker
from nodes.clipping_detector import ClippingDetector
from nodes.compressor import Compressor
from nodes.crossfade import Crossfade
from nodes.dc_block import DCBlock
from nodes.dc_offset import DCOffset
from nodes.delay import Delay
from nodes.denoise import Denoise
from nodes.gain import Gain
from nodes.gate import Gate
from nodes.json_transform import JSONTransform
from nodes.keyword_spotter import KeywordSpotter
from nodes.limiter import Limiter
from nodes.loudness import Loudness
from nodes.mel_spectrogram import MelSpectrogram
from nodes.mfcc import MFCC
from nodes.mix import Mix
from nodes.noise import Noise
from nodes.noise_suppress_agc import NoiseSuppressAGC
from nodes.onset_detector import OnsetDetector
from nodes.pass_through import PassThrough
from nodes.pitch import Pitch
from nodes.player import Player
from nodes.recorder import Recorder
from nodes.silence_detector import SilenceDetector
from nodes.silero_vad import SileroVAD
from nodes.snr import SNR
from nodes.spectrogram import Spectrogram
from nodes.speech_gate import SpeechGate
from nodes.speech_segmenter import SpeechSegmenter
from nodes.speech_to_text import SpeechToText
from nodes.switch import Switch
from nodes.tone import Tone
from nodes.vad import VAD

__all__ = ["BUILTIN", "FAMILIES", "with_directories"]

FAMILIES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "speech": (VAD, SileroVAD, SpeechGate, SpeechSegmenter, SpeechToText, KeywordSpotter),
        "cleaning": (
            Denoise,
            NoiseSuppressAGC,
            HighPass,
            LowPass,
            BandPass,
            DCBlock,
            Compressor,
            Limiter,
        ),
        "levels and health": (
            AudioLevel,
            Loudness,
            SNR,
            SilenceDetector,
            ClippingDetector,
            DCOffset,
            ChannelBalance,
            Gain,
        ),
        "features": (Spectrogram, MelSpectrogram, MFCC, Pitch, OnsetDetector),
        "flow": (
            Gate,
            Switch,
            Mix,
            Crossfade,
            ChannelSplit,
            ChannelMerge,
            Chunker,
            Delay,
            Tone,
            Noise,
            Player,
            Recorder,
            JSONTransform,
            Calculator,
            Accumulator,
            PassThrough,
        ),
        "format": (AudioResample, AudioFormatConverter, ChannelMixer),
    }
)
"""Family → node classes, as the catalogue lists them; each class is in exactly one family."""

BUILTIN: Mapping[str, type] = MappingProxyType(
    {
        node_class.__name__: node_class
        for node_class in sorted(chain.from_iterable(FAMILIES.values()), key=lambda each: each.__name__.casefold())
    }
)
"""Node type → class, for the composition roots to pass to the engine; importing this module registers nothing."""


def with_directories(
    *,
    recordings: Path | None = None,
    media: Path | None = None,
    max_recordings_bytes: int = Recorder.max_directory_bytes,
) -> Mapping[str, type]:
    """Return the nodes of `BUILTIN`, with Recorder and Player allowed the given directories.

    Args:
      recordings: Directory in which Recorder may write.
      media: Directory from which Player may read.
      max_recordings_bytes: Greatest size of the files in `recordings` together.
    """
    allowed: dict[str, type] = dict(BUILTIN)
    if recordings is not None:
        allowed["Recorder"] = Recorder.in_directory(recordings, max_directory_bytes=max_recordings_bytes)
    if media is not None:
        allowed["Player"] = Player.in_directory(media)
    return MappingProxyType(allowed)
