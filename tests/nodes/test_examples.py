"""The example of every node runs on two seconds of a signal like speech."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import trio
from trio.testing import MockClock

import nodes
from engine.manifest import Manifest, load_manifest
from engine.messages import Chunk, Result, SessionMetrics
from engine.session import Event, Session, open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN, with_directories
from tests.e2e.sounds import speech

RATE = 16_000
BLOCK = RATE // 50
SECONDS = 2.0

EXAMPLES = {path.stem: path for path in Path(nodes.__file__).parent.glob("examples/*.json")}


async def feed(session: Session) -> None:
    """Send the same audio to every source."""
    frames = speech(RATE, SECONDS)[:, None]
    for sequence, start in enumerate(range(0, len(frames), BLOCK)):
        for source in session.source_ids:
            await session.send(Chunk(Audio(frames[start : start + BLOCK], RATE), sequence, source))
    await session.close()


async def run_example(manifest: Manifest, directory: Path) -> list[Event]:
    registry = with_directories(recordings=directory, media=directory)
    async with open_session(manifest, registry=registry) as session, trio.open_nursery() as nursery:
        nursery.start_soon(feed, session)
        return [event async for event in session]


def test_every_node_has_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(BUILTIN)


@pytest.mark.parametrize("node_type", sorted(EXAMPLES))
async def test_the_example_runs(node_type: str, tmp_path: Path, mock_clock: MockClock) -> None:
    """Run an example on a mock clock, which stands still, so that no row is late on a slow machine."""
    soundfile.write(tmp_path / "music.wav", speech(RATE, 0.5), RATE)
    manifest = load_manifest(EXAMPLES[node_type])
    used = {node.id for node in manifest.nodes if node.node_type == node_type}
    assert used, "an example must use the node that it is named after"
    assert manifest.description, "an example must say what it is good for"
    events = await run_example(manifest, tmp_path)
    results = [event for event in events if isinstance(event, Result)]
    account = events[-1]
    assert isinstance(account, SessionMetrics)
    assert account.delivered == account.received > 0
    assert all(not result.errors for result in results)
    assert any(result.outputs for result in results), "the example has no output"
    assert all(account.figures[node].chunks for node in used), "the node had nothing to do"
