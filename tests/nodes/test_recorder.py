"""Recorder writes exactly its input, never to another place or beyond its limits, and always closes the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from trio.testing import MockClock

from engine.errors import ManifestInvalid
from engine.manifest.checker import make_plan
from engine.messages import Chunk, Result
from engine.session import open_session
from nodes.conformance import check_node, cut, signal
from nodes.contract import Audio, InvalidInput
from nodes.recorder import Recorder
from nodes.registry import BUILTIN, with_directories
from tests.engine.harness import wire

RATE = 16_000


def recorder(directory: Path, *, room: int = 10**9, **params: Any) -> Recorder:
    return Recorder.in_directory(directory, max_directory_bytes=room)(**params)


def read(path: Path, dtype: str = "float32") -> Any:
    frames, rate = soundfile.read(path, dtype=dtype, always_2d=True)
    assert rate == RATE
    return frames


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_conforms(tmp_path: Path) -> None:
    check_node(
        lambda **params: recorder(tmp_path, **{"name": "kit", **params}),
        length=None,
        waits=True,
        formats=("i16",),
        findings=lambda value: None if value is None else (value["frames"], value["duration_s"], value["truncated"]),
        faults=[{"max_seconds": 0}, {"gaps": "x"}, {"name": ""}, {"name": "../up"}, {"name": "/etc/x"}, {"name": ".x"}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@pytest.mark.parametrize(
    ("sample_format", "dtype", "subtype"),
    [("f32", "float32", "FLOAT"), ("i16", "int16", "PCM_16"), ("i32", "int32", "PCM_32")],
)
def test_writes_every_bit(sample_format: str, dtype: str, subtype: str, tmp_path: Path) -> None:
    frames, node = signal(4_001, 2, sample_format), recorder(tmp_path, name="take 1")
    assert not [item for block in cut(frames, [160] * 9, RATE, 77) for item in node.process(block)]
    assert node.custom_metrics()["frames"] == 4_001
    (item,) = node.finish()
    path = only_file(tmp_path)
    assert item.value == {"file": path.name, "frames": 4_001, "duration_s": 4_001 / RATE, "truncated": False}
    assert (item.at, item.until) == (77 / RATE, 4_078 / RATE)
    assert path.name.startswith("take 1-")
    assert soundfile.info(path).subtype == subtype
    assert np.array_equal(read(path, dtype), frames)


@pytest.mark.parametrize(("gaps", "between"), [("silence", 2 * RATE + 5), ("skip", 0)])
def test_gaps(gaps: str, between: int, tmp_path: Path) -> None:
    frames, node = signal(100), recorder(tmp_path, gaps=gaps)
    list(node.process(Audio(frames, RATE)))
    list(node.process(Audio(frames, RATE, 100 + 2 * RATE + 5)))
    node.close()
    expected = np.concatenate([frames, np.zeros((between, 1), np.float32), frames])
    assert np.array_equal(read(only_file(tmp_path)), expected)


def test_length_and_room_are_bounded(tmp_path: Path) -> None:
    node = recorder(tmp_path, max_seconds=0.01)
    list(node.process(Audio(signal(100), RATE)))
    list(node.process(Audio(signal(100), RATE, RATE * 3_600 * 1_000)))
    (item,) = node.finish()
    assert (item.value["frames"], item.value["truncated"]) == (160, True)
    size = only_file(tmp_path).stat().st_size
    small = recorder(tmp_path, room=size + 400)
    list(small.process(Audio(signal(200), RATE)))
    (item,) = small.finish()
    assert (item.value["frames"], item.value["truncated"]) == (100, True)
    with pytest.raises(InvalidInput, match="is full"):
        recorder(tmp_path, room=size).process(Audio(signal(1), RATE))
    assert len(list(tmp_path.iterdir())) == 2


def test_each_stream_is_a_file_of_its_own(tmp_path: Path) -> None:
    node = recorder(tmp_path)
    for _ in range(2):
        list(node.process(Audio(signal(10), RATE)))
        list(node.finish())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Audio(signal(2), 8_000, 10), "stream is 16000 Hz"),
        (Audio(signal(2, 1, "i16"), RATE, 10), "recording is f32"),
        (Audio(signal(2), RATE, 9), "stream is at frame 10"),
    ],
)
def test_another_format_or_place_is_refused(block: Audio, message: str, tmp_path: Path) -> None:
    node = recorder(tmp_path)
    list(node.process(Audio(signal(10), RATE)))
    with pytest.raises(InvalidInput, match=message):
        node.process(block)
    node.close()


def test_without_a_directory_no_pipeline_has_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"nodes\[0\].params: Recorder is not allowed any directory.*--record"):
        make_plan(wire("rec", rec="Recorder"), BUILTIN)
    make_plan(wire("rec", rec="Recorder"), with_directories(recordings=tmp_path)).close()
    assert Recorder.directory is None, "a directory must not change the class itself"


@pytest.mark.parametrize("ending", ["close", "cancel"])
async def test_however_a_session_ends_the_file_is_whole(ending: str, tmp_path: Path, mock_clock: MockClock) -> None:
    manifest = wire("in > rec", rec=("Recorder", {"name": "call"}), **{"in": "PassThrough"})
    frames = signal(1_600, 1, "i16")
    async with open_session(manifest, registry=with_directories(recordings=tmp_path)) as session:
        for sequence, block in enumerate(cut(frames, [160] * 10, RATE)):
            await session.send(Chunk(attrs.evolve(block, start=0), sequence))
        if ending == "close":
            await session.close()
            last = [event async for event in session if isinstance(event, Result)][-1]
            data = last.outputs["rec"].data
            assert data is not None
            assert data.value["file"] == only_file(tmp_path).name
        else:
            for _ in range(10):
                await session.receive()
            session.cancel()
    assert np.array_equal(read(only_file(tmp_path), "int16"), frames)
