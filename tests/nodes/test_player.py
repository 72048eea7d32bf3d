"""Player plays the file at the clock's positions, rate and format, and no other file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samplerate
import soundfile

from engine.errors import ManifestInvalid
from engine.manifest.checker import make_plan
from nodes.conformance import blocks_of, check_node, run, signal
from nodes.contract import Audio, InvalidInput
from nodes.player import Player
from nodes.registry import with_directories
from tests.engine.harness import wire

RATE = 16_000
CLOCK = np.zeros((3_000, 1), np.float32)


@pytest.fixture(autouse=True)
def _media(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    soundfile.write(tmp_path / "mono.wav", signal(2_000), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "fast.wav", signal(6_000, 2), 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", signal(0), RATE)


def player(directory: Path, file: str, **params: Any) -> Player:
    node = Player.in_directory(directory)(file=file, **params)
    node.connect(("clock",))
    return node


def played(node: Player, stretches: list[tuple[int, Any]], sizes: list[int]) -> Any:
    outcome = run(node, blocks_of(stretches, sizes, RATE))
    node.close()
    return [(start, frames) for start, frames in outcome.runs]


def test_conforms(tmp_path: Path) -> None:
    check_node(
        lambda **params: player(tmp_path, **{"file": "fast.wav", "mix": True, **params}),
        formats=("f32", "i16"),
        channels=(2,),
        tolerance=1e-6,
        faults=[{"file": ""}, {"file": "../mono.wav"}, {"file": "a/b.wav"}, {"file": "none.wav"}, {"gain_db": 121}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


def test_plays_the_file_then_silence_or_again(tmp_path: Path) -> None:
    expected = np.concatenate([signal(2_000), np.zeros((1_000, 1))])
    ((start, frames),) = played(player(tmp_path, "mono.wav"), [(70, CLOCK)], [160] * 30)
    assert start == 70
    assert np.array_equal(frames, expected)
    ((_, frames),) = played(player(tmp_path, "mono.wav", loop=True, gain_db=-20), [(70, CLOCK)], [333] * 30)
    assert np.allclose(frames, 0.1 * np.concatenate([signal(2_000), signal(2_000)[:1_000]]))
    for loop in (False, True):
        ((_, frames),) = played(player(tmp_path, "empty.wav", loop=loop), [(0, CLOCK)], [])
        assert not frames.any()


def test_another_rate_is_the_librarys_one_shot_and_channels_are_averaged(tmp_path: Path) -> None:
    ((_, frames),) = played(player(tmp_path, "fast.wav"), [(0, CLOCK)], [160, 7, 333] * 10)
    mean = signal(6_000, 2).mean(axis=1, dtype=np.float64).astype(np.float32)
    expected = samplerate.resample(np.pad(mean, (0, 600)), 1 / 3, "sinc_fastest")[:2_000]
    assert np.allclose(frames[:2_000, 0], expected, atol=1e-5)
    assert not frames[2_000:].any()


def test_a_gap_passes_over_what_would_have_been_played(tmp_path: Path) -> None:
    first, second = played(player(tmp_path, "mono.wav"), [(0, CLOCK[:500]), (1_200, CLOCK[:500])], [160] * 9)
    assert np.array_equal(first[1], signal(2_000)[:500])
    assert np.array_equal(second[1], signal(2_000)[1_200:1_700])
    _, late = played(player(tmp_path, "mono.wav"), [(0, CLOCK[:500]), (9_000, CLOCK[:500])], [160] * 9)
    assert not late[1].any()


def test_mixed_it_is_added(tmp_path: Path) -> None:
    block = Audio(signal(500, seed=3), RATE)
    node = player(tmp_path, "mono.wav", mix=True)
    (out,) = node.process(block)
    assert np.allclose(out.frames, block.frames + signal(2_000)[:500], atol=1e-6)
    with pytest.raises(InvalidInput, match="not finite"):
        node.process(Audio(np.full((1, 1), np.nan, np.float32), RATE, 500))
    node.close()


def test_only_regular_files_of_the_directory_are_read(tmp_path: Path) -> None:
    allowed = with_directories(media=tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}-outside.wav"
    soundfile.write(outside, signal(10), RATE)
    (tmp_path / "link.wav").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("none.wav", "pipe.wav", f"../{outside.name}", str(outside)):
        with pytest.raises(ManifestInvalid, match=r"no .none\.wav.|no .pipe\.wav.|plain file name"):
            make_plan(wire("play", play=("Player", {"file": name})), allowed)
    with pytest.raises(OSError, match="symbolic links"):
        player(tmp_path, "link.wav").process(Audio(CLOCK, RATE))


def test_without_a_directory_no_pipeline_has_it() -> None:
    with pytest.raises(ManifestInvalid, match="Player is not allowed any directory here: see the option --media DIR"):
        make_plan(wire("play", play=("Player", {"file": "mono.wav"})), with_directories())


def test_little_of_a_file_is_held(tmp_path: Path) -> None:
    node = player(tmp_path, "mono.wav", loop=True)
    for start in range(0, 40 * RATE, RATE):
        list(node.process(Audio(np.zeros((RATE, 1), np.int16), RATE, start)))
        assert node.memory_bytes <= 4_096 * 4
    node.close()
