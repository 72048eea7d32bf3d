"""PassThrough yields its input unchanged."""

from __future__ import annotations

from nodes.contract import Audio, Data, Kind
from nodes.pass_through import PassThrough
from tests.kits import check_node, signal


def test_conforms() -> None:
    check_node(PassThrough, channels=(1, 128), rates=(1, 48_000))


def test_gives_the_very_same_item() -> None:
    node = PassThrough()
    for item in (Audio(signal(8), 8_000, 3), Data({"text": "hello"}, at=1.0)):
        assert next(iter(node.process(item))) is item


def test_takes_and_gives_both_kinds() -> None:
    assert PassThrough().takes == PassThrough().gives == Kind.BOTH
