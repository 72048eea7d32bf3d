"""The types of the contract, the registry, and the conformance kit on nodes that break the rules."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.contract import (
    Audio,
    Data,
    InvalidInput,
    Item,
    Join,
    Kind,
    Node,
    from_float32,
    parameter,
    to_float32,
)
from nodes.registry import BUILTIN
from tests.kits import check_node, signal


@pytest.mark.parametrize(
    ("frames", "rate"),
    [
        (np.zeros(4, np.float32), 8_000),
        (np.zeros((4, 0), np.float32), 8_000),
        (np.zeros((4, 129), np.float32), 8_000),
        (np.zeros((4, 1), np.float64), 8_000),
        (np.zeros((4, 1), np.float32), 0),
        (np.zeros((4, 1), np.float32), 768_001),
    ],
)
def test_audio_of_another_shape_format_or_rate_is_no_audio(frames: Any, rate: int) -> None:
    with pytest.raises(ValueError, match=r"frames must|samples must|sample rate must"):
        Audio(frames, rate)


def test_audio_is_read_only_and_leaves_its_array_as_it_was() -> None:
    frames = signal(4)
    audio = Audio(frames, 8_000)
    with pytest.raises(ValueError, match="read-only"):
        audio.frames[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        audio.as_float32()[0, 0] = 1
    frames[0, 0] = 0.5


def test_audio_knows_its_place() -> None:
    audio = Audio(signal(10, 3), 8_000, 7)
    assert (audio.stop, audio.samples, audio.channels, audio.sample_format) == (17, 30, 3, "f32")
    moved = audio.placed(100)
    assert (moved.start, moved.stop, moved.sample_rate) == (100, 110, 8_000)
    assert moved.frames is audio.frames


def test_audio_cannot_be_changed_but_copied_and_sent() -> None:
    audio = Audio(signal(10, 3, "i16"), 8_000, 7)
    for name in ("frames", "sample_rate", "start", "channels", "sample_format"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(audio, name, getattr(audio, name))
    for other in (copy.copy(audio), pickle.loads(pickle.dumps(audio)), attrs.evolve(audio)):
        assert repr(other) == repr(audio)
        assert np.array_equal(other.frames, audio.frames)
        assert not other.frames.flags.writeable


def test_derived_audio_keeps_the_format() -> None:
    derived = Audio(signal(4, 1, "i16"), 8_000, 3).derive(np.full((2, 2), 2.0, np.float32), sample_rate=16_000)
    assert (derived.sample_format, derived.sample_rate, derived.start) == ("i16", 16_000, 3)
    assert derived.frames.tolist() == [[32_767] * 2] * 2


@given(st.lists(st.integers(-(2**15), 2**15 - 1)))
def test_int16_survives_float32(values: list[int]) -> None:
    frames = np.array(values, np.int16)[:, None]
    assert np.array_equal(from_float32(to_float32(frames), "i16"), frames)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_int32_keeps_twenty_four_bits(values: list[int]) -> None:
    frames = np.array(values, np.int32)[:, None]
    back = from_float32(to_float32(frames), "i32").astype(np.int64)
    assert (np.abs(back - frames) <= np.maximum(np.abs(frames.astype(np.int64)) / 2**24, 1)).all()


def test_float32_clips_and_rounds_to_nearest() -> None:
    frames = np.array([1.5, -1.5, 1.6 / 32_768, -1.6 / 32_768], np.float32)
    assert from_float32(frames, "i16").tolist() == [32_767, -32_768, 2, -2]
    assert from_float32(frames[:2], "i32").tolist() == [2**31 - 1, -(2**31)]


def test_data_join_into_a_list_unless_there_is_one() -> None:
    first, second = Data({"n": 1}, 0.0, 0.5), Data({"n": 2}, 0.5, 1.0)
    assert Node().join([first]) is first
    assert Node().join([first, second]) == Data({"items": [{"n": 1}, {"n": 2}]}, 0.0, 1.0)


def test_every_builtin_is_a_node_that_says_what_it_is() -> None:
    for name, node_type in BUILTIN.items():
        assert node_type.__name__ == name
        assert issubclass(node_type, (Node, Join))
        assert (node_type.__doc__ or "").strip()
        for field in attrs.fields(node_type):
            assert not field.init or field.metadata["help"], f"{name}.{field.name} has no help"


def test_builtin_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        BUILTIN["PassThrough"] = Node  # type: ignore[index]


def test_kinds_are_spelt_out() -> None:
    assert [str(kind) for kind in (Kind.AUDIO, Kind.DATA, Kind.BOTH)] == ["audio", "data", "audio and data"]


@attrs.define
class _Sound(Node):
    """A node without faults; each subclass breaks one rule."""

    depth: int = parameter(0, help="nothing", at_least=0)
    held: list[Audio] = attrs.field(init=False, factory=list)

    def process(self, item: Audio) -> Iterable[Item]:
        return (item,)


class _NotInvariant(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        return (item.derive(item.as_float32() - item.as_float32().mean()),) if len(item.frames) else ()


class _Writes(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        item.frames.flags.writeable = True
        item.frames[:] = 0
        return (item,)


class _LosesItsTail(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        given_now, self.held = self.held, [item]
        return given_now


class _KeepsItsTail(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        self.held = [Audio(item.frames[:0], item.sample_rate, item.stop)]
        return (item,)

    def finish(self) -> Iterable[Item]:
        return self.held


class _DelaysInSecret(_LosesItsTail):
    def finish(self) -> Iterable[Item]:
        given_now, self.held = self.held, []
        return given_now


class _ForgetsPositions(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        return (Audio(item.frames, item.sample_rate, 0),)


class _ChangesFormat(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        return (Audio(item.as_float32(), item.sample_rate, item.start),)


class _NotFinite(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        with np.errstate(all="ignore"):
            return (Audio(item.as_float32() / np.float32(0), item.sample_rate, item.start),)


class _RemembersTheRefused(_Sound):
    def process(self, item: Audio) -> Iterable[Item]:
        if item.channels == 9:
            self.held = [item]
            raise InvalidInput("nine")
        return () if self.held else (item,)


class _NeverHealsFromNaN(_Sound):
    poisoned: bool = False

    def process(self, item: Audio) -> Iterable[Item]:
        self.poisoned |= bool(np.isnan(item.as_float32()).any())
        return (item.derive(item.as_float32() * (not self.poisoned)),)


class _AnyDepth(Node):
    def __init__(self, depth: int = 0) -> None:
        pass

    def process(self, item: Audio) -> Iterable[Item]:
        return (item,)


def nine(block: Audio) -> Audio:
    return Audio(np.zeros((4, 9), np.float32), block.sample_rate, block.start)


def test_the_kit_passes_a_sound_node() -> None:
    check_node(_Sound, faults=[{"depth": -1}])


@pytest.mark.parametrize(
    ("node_type", "reason"),
    [
        (_NotInvariant, "samples differ"),
        (_Writes, "WRITEABLE"),
        (_LosesItsTail, "lengths differ|positions or length"),
        (_KeepsItsTail, "goes back|second time"),
        (_DelaysInSecret, "lags by"),
        (_ForgetsPositions, "goes back|positions"),
        (_ChangesFormat, "another format"),
        (_NotFinite, "not finite"),
        (_RemembersTheRefused, "differ"),
        (_NeverHealsFromNaN, "samples differ"),
        (_AnyDepth, "ValueError was not raised"),
    ],
)
def test_the_kit_catches(node_type: type[Node], reason: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=reason):
        check_node(node_type, faults=[{"depth": -1}], refuse=nine if node_type is _RemembersTheRefused else None)


def test_the_kit_can_report_every_check_instead() -> None:
    failed: list[str] = []

    def report(name: str, check: Callable[[], None]) -> None:
        try:
            check()
        except AssertionError:
            failed.append(name)

    check_node(_LosesItsTail, formats=("i16",), channels=(2,), report=report)
    assert "cut anyhow: i16, 16000 Hz, 2 channels" in failed
    assert "closed at any time: i16, 16000 Hz, 2 channels" not in failed
