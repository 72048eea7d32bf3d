"""Items for one downstream node alone: the node that receives them, the skipped nodes, and branches in step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from engine.errors import ManifestInvalid, NodeFailed
from engine.manifest.checker import make_plan
from engine.messages import NodeStatus, Result, Status
from nodes.contract import Data, Item, To, parameter
from tests.engine.harness import (
    RATE,
    Kinds,
    Probe,
    errors,
    note,
    numbers,
    opened,
    receive_all,
    results,
    tone,
    wire,
)
from tests.engine.test_oneshot import call

SKIPPED, SUCCESS = NodeStatus.SKIPPED, NodeStatus.SUCCESS


@attrs.define(eq=False, slots=False)
class Postman(Probe):
    """Sends every item to the downstream node `to`, or to all if that is empty."""

    to: str = parameter("", help="a downstream node's id")
    routes = True

    def treat(self, item: Item) -> Iterable[Item | To]:  # type: ignore[override]
        return (To(self.to, item) if self.to else item,)


class Impostor(Postman):
    routes = False


class Forger(Probe):
    """Addresses an object that is not an item."""

    routes = True

    def treat(self, item: Item) -> Iterable[Item | To]:  # type: ignore[override]
        return (To("b", "a letter"),)  # type: ignore[arg-type]


class Strict(Probe):
    """Wants exactly one downstream node."""

    def connect_outputs(self, downstreams: Sequence[str]) -> None:
        self.told = list(downstreams)
        if len(downstreams) != 1:
            raise ValueError(f"one way out, please, not {len(downstreams)}")


async def stream(graph: str, rows: int, **nodes: Any) -> list[Result]:
    async with opened(wire(graph, **nodes), Kinds(Postman, Impostor, Forger, Strict)) as session:
        for number in range(rows):
            await session.send(note(number))
        await session.close()
        events = await receive_all(session)
        assert session.accounts.memory.buffers == 0, "routed items are still accounted"
    if failed := errors(events):
        raise failed[0]
    return results(events)


def statuses(result: Result) -> dict[str, NodeStatus]:
    return {node.node_id: node.status for node in result.nodes}


async def test_an_item_reaches_the_node_it_is_for_and_skips_the_others(autojump_clock: MockClock) -> None:
    first, second, third, tail = await stream("fork > a > c, fork > b", 3, fork=("Fork", {"shut": 3}))
    assert statuses(first) == {"fork": SUCCESS, "a": SUCCESS, "c": SUCCESS, "b": SKIPPED}
    assert statuses(second) == {"fork": SUCCESS, "a": SKIPPED, "c": SKIPPED, "b": SUCCESS}
    assert statuses(third) == {"fork": SUCCESS, "a": SKIPPED, "c": SKIPPED, "b": SKIPPED}
    assert [each.status for each in (first, second, third)] == [Status.PARTIAL_SUCCESS] * 3
    assert [numbers(each, "c") + numbers(each, "b") for each in (first, second, third)] == [[0], [1], []]
    assert tail.status is Status.SUCCESS, "the barrier reaches closed branches too"


async def test_a_closed_branch_stays_in_step_where_branches_meet(autojump_clock: MockClock) -> None:
    rows = await stream("fork > a > meet, fork > b > meet", 4, fork="Fork", meet="Meet")
    met = [row.outputs["meet"].data.value for row in rows[:4]]  # type: ignore[union-attr]
    assert met == [{"a": [0], "b": []}, {"a": [], "b": [1]}, {"a": [2], "b": []}, {"a": [], "b": [3]}]


async def test_what_has_no_address_goes_to_all(autojump_clock: MockClock) -> None:
    row, _ = await stream("post > a, post > b", 1, post="Postman")
    assert (numbers(row, "a"), numbers(row, "b")) == ([0], [0])


async def test_a_router_whose_output_is_returned_gives_plain_items(autojump_clock: MockClock) -> None:
    manifest = wire("post > a, post > b", post=("Postman", {"to": "b"}))
    tapped = attrs.evolve(
        manifest, nodes=tuple(attrs.evolve(node, is_output=node.id == "post") for node in manifest.nodes)
    )
    async with opened(tapped, Kinds(Postman)) as session:
        await session.send(note(7))
        await session.close()
        row = results(await receive_all(session))[0]
    assert (numbers(row, "post"), numbers(row, "a"), numbers(row, "b")) == ([7], [], [7])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (("Postman", {"to": "c"}), "emitted an item for 'c', but its downstream nodes are 'a', 'b'"),
        (("Impostor", {"to": "a"}), "but declares that it gives audio and data"),
        ("Forger", "emitted To"),
    ],
)
async def test_a_wrong_address_fails_the_node(kind: Any, message: str, autojump_clock: MockClock) -> None:
    with pytest.raises(NodeFailed, match=message) as caught:
        await stream("post > a, post > b", 1, post=kind)
    assert caught.value.node_id == "post"


def test_a_node_is_told_where_it_leads_in_the_order_of_the_connections() -> None:
    kinds = Kinds(Strict)
    plan = make_plan(wire("z > y, x > a", x="Strict"), kinds)
    assert plan.sources["x"].node.told == ["a"]  # type: ignore[union-attr]
    plan.close()
    with pytest.raises(ManifestInvalid, match=r"nodes\[0\].params: one way out, please, not 2"):
        make_plan(wire("x > b, x > a", x="Strict"), kinds)


async def test_a_branch_that_is_never_opened_is_skipped_in_the_whole_call(autojump_clock: MockClock) -> None:
    result = await call(wire("fork > a, fork > b > c", fork="Fork"), {"fork": tone(RATE // 2)})
    assert statuses(result) == {"fork": SUCCESS, "a": SUCCESS, "b": SKIPPED, "c": SKIPPED}
    assert result.status is Status.PARTIAL_SUCCESS


def test_an_address_is_no_item() -> None:
    assert not isinstance(To("a", Data({})), Item)
