"""The conformance kit finds nodes that break one rule each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
import pytest

from nodes.conformance import check_node
from nodes.conformance.footprint import footprint_bytes
from nodes.conformance.harness import checked
from nodes.contract import Audio, Node


@attrs.define
class Breaking(Node):
    """Passes audio unchanged; each subclass breaks one rule."""

    held: Any = attrs.field(init=False, factory=list)

    def process(self, item: Audio) -> Iterable[Audio]:
        self.note(item)
        return (item,)

    def note(self, item: Audio) -> None:
        pass

    def finish(self) -> Iterable[Audio]:
        self.held = []
        return ()


class CountsBlocks(Breaking):
    def note(self, item: Audio) -> None:
        self.held.append(item.start)


class KeepsViews(Breaking):
    def note(self, item: Audio) -> None:
        self.held.append(item.frames[:1].copy()[:0])


class NotesLoudness(Breaking):
    """Keeps something every few seconds, as a node with events would."""

    def note(self, item: Audio) -> None:
        if (item.frames == 1.0).any():
            self.held.append([item.start, item.stop])


class SaysSo(Breaking):
    n_frames: int = 0

    def note(self, item: Audio) -> None:
        self.n_frames += len(item.frames)

    def finish(self) -> Iterable[Audio]:
        self.n_frames = 0
        return ()

    @property
    def memory_bytes(self) -> int:
        return self.n_frames


class Divides(Breaking):
    def process(self, item: Audio) -> Iterable[Audio]:
        frames = item.as_float32()
        with np.errstate(all="ignore"):
            yield item.derive(frames / np.abs(frames).max(initial=0.0) if (frames == 0).all() else frames)


def failures(node_class: type[Breaking]) -> set[str]:
    """Return the names of the checks that fail, for one format of audio."""
    found = set()

    def report(name: str, check: Any) -> None:
        try:
            check()
        except AssertionError:
            found.add(name.partition(":")[0])

    check_node(node_class, formats=("f32",), channels=(1,), report=report)
    return found


def test_a_good_node_passes() -> None:
    assert failures(Breaking) == set()


@pytest.mark.parametrize("node_class", [CountsBlocks, KeepsViews, NotesLoudness, SaysSo])
def test_what_grows_with_the_stream_is_found(node_class: type[Breaking]) -> None:
    assert failures(node_class) == {"bounded memory"}


def test_silence_that_becomes_nan_is_found() -> None:
    assert "silence and full scale" in failures(Divides)


def test_a_footprint_counts_everything_once_and_what_a_view_keeps_alive() -> None:
    big = np.zeros(10_000, np.float32)
    assert footprint_bytes([big, big, big[:1]]) == pytest.approx(40_000, rel=0.02)
    assert footprint_bytes({"a": (big[5:6],)}) == pytest.approx(40_000, rel=0.02)
    assert footprint_bytes(np) == footprint_bytes(failures) == 0


@pytest.mark.parametrize(
    ("given", "said"), [(None, "returned None instead of a list"), ([np.zeros((9, 1))], "neither Audio nor Data")]
)
def test_what_is_no_list_of_items_is_told(given: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        checked(given)
