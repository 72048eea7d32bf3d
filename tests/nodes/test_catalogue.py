"""Requirements on every node of the catalogue. A new node fails here until it meets all of them."""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import attrs
import numpy as np
import pytest
import soundfile

from benchmarks.nodes import RESULTS
from engine.catalogue.description import describe
from engine.catalogue.examples import example_params, example_path
from engine.errors import Fault
from engine.manifest.parameters import build_node, parameter_fields, parameter_types
from nodes.bases.aligned_join import AlignedJoin
from nodes.conformance import cut, signal
from nodes.contract import AnyNode, Audio, InvalidInput, Join
from nodes.registry import BUILTIN, FAMILIES, with_directories
from nodes.switch import Switch

README = Path(__file__).parents[2] / "nodes/README.md"


@attrs.frozen
class Proof:
    """Two tests of a node, in `test_{module}.py` unless a name begins with another module.

    Attributes:
      module: Name of the test module, without `test_`.
      compared: Test against a library's one-shot result, a closed formula, or a signal with a known answer.
      conforms: Test that runs the conformance kit on the node.
    """

    module: str
    compared: str
    conforms: str = "conforms"

    def find(self, name: str) -> Callable[..., Any]:
        module, _, test = name.rpartition(".")
        found: Callable[..., Any] = getattr(
            importlib.import_module(f"tests.nodes.test_{module or self.module}"), f"test_{test}"
        )
        return found


PROOFS: Mapping[str, Proof] = {
    "Accumulator": Proof("data_nodes", "accumulates_everything_once_in_order", "accumulator_conforms"),
    "AudioFormatConverter": Proof("audio_format_converter", "int16_survives_the_way_through_the_others"),
    "AudioLevel": Proof("audio_level", "a_sine_is_three_decibels_below_its_peak"),
    "AudioResample": Proof("audio_resample", "chunked_equals_one_shot_libsamplerate"),
    "BandPass": Proof("butterworth", "band_pass_has_the_power_of_the_closed_formula"),
    "Calculator": Proof("data_nodes", "sums_are_exact_and_means_are_theirs", "calculator_conforms"),
    "ChannelBalance": Proof("channel_balance", "levels_ratio_and_difference"),
    "ChannelMerge": Proof("channels", "split_and_merged_again_it_is_the_same", "merge_conforms"),
    "ChannelMixer": Proof("channel_mixer", "five_one_to_stereo_follows_bs_775"),
    "ChannelSplit": Proof("channels", "channels_go_to_the_connections_in_order_or_as_told", "split_conforms"),
    "Chunker": Proof("chunker", "gives_the_windows_of_the_whole"),
    "ClippingDetector": Proof("clipping_detector", "a_sine_that_is_cut_off_is_saturated_as_the_formula_says"),
    "Compressor": Proof("compressor", "steady_levels_follow_the_static_curve"),
    "Crossfade": Proof("crossfade", "gains_are_the_closed_formulas"),
    "DCBlock": Proof("butterworth", "dc_block_is_its_difference_equation"),
    "DCOffset": Proof("dc_offset", "the_offset_of_each_channel_is_what_was_added"),
    "Delay": Proof("delay", "each_frame_comes_that_much_later_and_silence_before"),
    "Denoise": Proof("denoise", "equals_the_library_called_on_the_whole"),
    "Gain": Proof("gain", "multiplies_by_the_closed_formula"),
    "Gate": Proof("gate", "every_frame_goes_where_its_moment_says", "gate_conforms"),
    "HighPass": Proof("butterworth", "high_and_low_pass_have_the_power_of_the_closed_formula"),
    "JSONTransform": Proof("data_nodes", "expression.is_jmespath", "transform_conforms"),
    "KeywordSpotter": Proof(
        "speech_to_text", "phrases_are_found_where_they_are_said_and_no_others", "the_spotter_conforms"
    ),
    "Limiter": Proof("limiter", "no_sample_is_ever_above_the_ceiling"),
    "Loudness": Proof("loudness", "integrated_loudness_is_pyloudnorms"),
    "LowPass": Proof("butterworth", "high_and_low_pass_have_the_power_of_the_closed_formula"),
    "MelSpectrogram": Proof("spectral_features", "mel_spectrogram_and_mfcc_are_the_one_shot_formulas"),
    "MFCC": Proof("spectral_features", "mel_spectrogram_and_mfcc_are_the_one_shot_formulas"),
    "Mix": Proof("mix", "is_the_weighted_sum"),
    "Noise": Proof("sources", "noise_has_its_level_no_colour_and_unlike_channels", "noise_conforms"),
    "NoiseSuppressAGC": Proof("noise_suppress_agc", "equals_the_library_called_on_the_whole"),
    "OnsetDetector": Proof("onset_detector", "finds_what_begins_and_nothing_else"),
    "PassThrough": Proof("pass_through", "gives_the_very_same_item"),
    "Pitch": Proof("pitch", "finds_the_fundamental"),
    "Player": Proof("player", "another_rate_is_the_librarys_one_shot_and_channels_are_averaged"),
    "Recorder": Proof("recorder", "writes_every_bit"),
    "SilenceDetector": Proof("silence_detector", "silence_is_told_after_the_hold_and_with_its_times"),
    "SileroVAD": Proof("silero_vad", "probabilities_are_those_of_the_library"),
    "SNR": Proof("snr", "speech_in_noise_of_known_power"),
    "Spectrogram": Proof("spectral_features", "spectrogram_is_scipys"),
    "SpeechGate": Proof("speech_gate", "passes_what_the_segments_cover"),
    "SpeechSegmenter": Proof("speech_segmenter", "utterances_are_the_segments_with_their_rolls"),
    "SpeechToText": Proof("speech_to_text", "words_are_those_of_the_library"),
    "Switch": Proof("gate", "every_frame_goes_where_its_moment_says", "switch_conforms"),
    "Tone": Proof("sources", "tone_is_the_closed_formula_far_into_a_stream", "tone_conforms"),
    "VAD": Proof("vad", "decisions_are_those_of_webrtcvad_on_the_same_samples"),
}


@pytest.fixture
def allowed(tmp_path: Path) -> Mapping[str, type]:
    soundfile.write(tmp_path / "music.wav", signal(), 16_000)
    return with_directories(recordings=tmp_path, media=tmp_path)


@pytest.mark.parametrize("node_type", BUILTIN)
def test_every_node_has_what_the_catalogue_promises(node_type: str, allowed: Mapping[str, type]) -> None:
    node_class = allowed[node_type]
    assert node_type in PROOFS, "add a comparison with an independent reference, and a run of the conformance kit"
    proof = PROOFS[node_type]
    assert "check_node(" in inspect.getsource(proof.find(proof.conforms))
    assert BUILTIN[node_type].__name__ in inspect.getsource(inspect.getmodule(proof.find(proof.conforms)))  # type: ignore[arg-type]
    assert proof.find(proof.compared)
    assert example_path(node_type, BUILTIN[node_type]), "add an example; test_examples.py runs it"
    assert node_type in {each.__name__ for family in FAMILIES.values() for each in family}, "add it to a family"
    assert f"| `{node_type}` |" in README.read_text(encoding="utf-8"), "run python -m benchmarks catalogue --write"
    assert node_type in json.loads(RESULTS.read_text())["nodes"], f"run python -m benchmarks nodes {node_type}"
    facts = describe(node_type, node_class, example_params(node_type, BUILTIN[node_type]))
    assert facts.summary.endswith((".", "detector in `VAD`.")), "begin with a sentence on one line"
    assert len(facts.description) > len(facts.summary) or node_type == "PassThrough", (
        "describe the method and its source"
    )
    assert facts.max_delay_ms is not None
    assert 0 <= facts.max_delay_ms < math.inf
    assert all(parameter.help for parameter in facts.parameters)


LIMITS: Mapping[str, Callable[[int, int], bool]] = {
    "ChannelBalance": lambda rate, channels: channels == 2,
    "ChannelMerge": lambda rate, channels: 2 * channels <= 128,
    "ChannelMixer": lambda rate, channels: channels <= 2,  # its example makes two; there are rules from 1, 2 and 6
    "ChannelSplit": lambda rate, channels: channels >= 2,
    "LowPass": lambda rate, channels: rate > 8_000,  # twice its cutoff
}
"""Conditions on rate and channel count that a node documents; it rejects all other audio."""

FORMS = [(8_000, 1), (44_100, 2), (48_000, 3), (16_000, 128)]

MOVES = {
    "AudioFormatConverter",
    "ChannelSplit",
    "Chunker",
    "Delay",
    "Gate",
    "Noise",
    "PassThrough",
    "Player",
    "Recorder",
}
MOVES |= {"SpeechGate", "SpeechSegmenter", "Switch", "Tone"}
"""Nodes that only move samples or replace them; all other nodes reject NaN."""

AUDIO_NODES = [name for name in BUILTIN if name not in ("Accumulator", "Calculator", "JSONTransform")]


@pytest.mark.parametrize("node_type", AUDIO_NODES)
def test_every_format_rate_and_channel_count_is_taken(node_type: str, allowed: Mapping[str, type]) -> None:
    for sample_format, (rate, channels) in product(("f32", "i16", "i32"), FORMS):
        frames = signal(rate // 40, channels, sample_format, rate)
        node = _connected(node_type, allowed[node_type])
        if LIMITS.get(node_type, lambda rate, channels: True)(rate, channels):
            items = [item for block in cut(frames, [7, rate // 100], rate) for item in node.process(_row(node, block))]
            items += node.finish() if node.extra != "asr" else ()  # their finish would load a model each time
            given = {audio.sample_format for item in items if isinstance(audio := getattr(item, "item", item), Audio)}
            assert given <= {sample_format} or node_type == "AudioFormatConverter"
        else:
            with pytest.raises(InvalidInput):
                list(node.process(_row(node, Audio(frames, rate))))
        node.close()


@pytest.mark.parametrize("node_type", [name for name in AUDIO_NODES if name not in MOVES])
@pytest.mark.parametrize("sample", [math.nan, math.inf])
def test_what_is_no_number_is_refused(node_type: str, sample: float, allowed: Mapping[str, type]) -> None:
    node = _connected(node_type, allowed[node_type])
    frames = np.zeros((160, 2), np.float32)
    frames[80] = sample
    with pytest.raises(InvalidInput, match="not finite"):
        list(node.process(_row(node, Audio(frames, 16_000))))
    node.close()


def _connected(node_type: str, node_class: type[AnyNode]) -> AnyNode:
    """Build a node with its defaults, or else its example's parameters, and connect it on both sides."""
    try:
        node = node_class()
    except (TypeError, ValueError):
        node = node_class(**example_params(node_type, BUILTIN[node_type]))
    node.connect(("a", "b"))
    routed = [*node.cases, node.default] if isinstance(node, Switch) else ["left", "right"]
    node.connect_outputs([name for name in routed if name])
    return node


def _row(node: AnyNode, block: Audio) -> Any:
    """Return an argument of `process`; a node that joins audio with data gets no data."""
    if not isinstance(node, Join):
        return block
    return {"a": [block], "b": [block] if isinstance(node, AlignedJoin) else []}


WRONG: Mapping[Any, list[Any]] = {
    int: [10**18, -(10**18), 0.5, True, "1", None],
    float: [1e299, -1e299, math.nan, math.inf, True, "1", None],
    str: [1, None, ["x"]],
    Literal: [1, None, "none of them"],
    bool: [1, "true", None],
    list: [{}, 1, "x", [{}]],
    dict: [[], 1, "x"],
}


@pytest.mark.parametrize("node_type", BUILTIN)
def test_every_parameter_is_validated(node_type: str, allowed: Mapping[str, type]) -> None:
    node_class: type[AnyNode] = allowed[node_type]
    good = example_params(node_type, BUILTIN[node_type])
    hints = parameter_types(node_class)
    taken = [
        (name, wrong)
        for name in parameter_fields(node_class)
        for wrong in _wrong(hints[name])
        if not _faults(node_class, {**good, name: wrong})
    ]
    assert not taken
    assert _faults(node_class, {**good, "no_such_parameter": 1})
    assert not _faults(node_class, good)


def _wrong(hint: Any) -> list[Any]:
    """Return values that no parameter of this type should accept."""
    if isinstance(hint, UnionType):
        return [wrong for wrong in _wrong(get_args(hint)[0]) if wrong is not None]
    return WRONG[get_origin(hint) or hint]


def _faults(node_class: type[AnyNode], params: Mapping[str, Any]) -> list[Fault]:
    faults: list[Fault] = []
    if (node := build_node(node_class, params, "params", faults)) is not None:
        node.close()
    return faults
