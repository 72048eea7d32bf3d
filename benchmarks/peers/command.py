"""`python -m benchmarks peers`: compare Headrace with other systems on the same work, client and machine.

Contenders take turns within every round, and each round begins with another one, so that other work on the machine
affects all. A ratio is taken in each round. Before anything is timed, the output of every contender is checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.load.figures import spread
from benchmarks.peers.comparisons import COMPARISONS, Comparison, Figures
from benchmarks.peers.roster import PEERS, Found, InstallFailed, Missing, find, install
from benchmarks.report.progress import Bars, progress
from benchmarks.report.report import Cell, Report, Table, publish, report_options

__all__ = ["peers"]

_BUDGET_COLUMNS = {
    "comparison": "comparison",
    "figure": "figure",
    "ours": "of",
    "against": "against",
    "budget": "budget",
    "found": "found",
    "lowest": "lowest",
    "highest": "highest",
    "verdict": "verdict",
}
_PEER_COLUMNS = {"peer": "peer", "about": "what it is", "versions": "versions", "install": "missing; install it with"}
_NOTE = (
    "Medians of the rounds, with the lowest and highest of the first figure. Server CPU is the scheduler's own account;"
    " servers and in-process chains have one core, clients another."
)
_Found = Mapping[str, Found | Missing]


def _names(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name for name in value.split(",") if name)
    known = COMPARISONS if option.name == "comparisons" else PEERS
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is unknown; known are {', '.join(known)}")
    return names


@click.command(context_settings={"show_default": True})
@click.option("--only", default="", callback=_names, metavar="PEER,...", help="Only these peers.")
@click.option("--without", default="", callback=_names, metavar="PEER,...", help="All peers except these.")
@click.option(
    "--comparisons", default=",".join(COMPARISONS), callback=_names, metavar="NAME,...", help="Comparisons to make."
)
@click.option("--rounds", default=5, type=click.IntRange(1), help="Rounds, with one run of each contender.")
@click.option("--share", default=1.0, type=click.FloatRange(0.001), help="Length of the runs, as a share of the usual.")
@click.option("--install", "installing", is_flag=True, help="Install missing peers, and measure nothing.")
@report_options
def peers(
    only: tuple[str, ...],
    without: tuple[str, ...],
    comparisons: tuple[str, ...],
    rounds: int,
    share: float,
    installing: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Compare Headrace with other systems on the same work, and report which budgets are met."""
    chosen = [name for name in PEERS if (not only or name in only) and name not in without]
    with progress() as bars:
        if installing:
            _install(chosen, bars)
        found = {name: find(name) for name in chosen}
        tables = [] if installing else _compare(comparisons, found, rounds, share, bars)
    publish(Report("peers", [_roster(found), *tables], [_NOTE]), as_json, out)


def _install(names: Collection[str], bars: Bars) -> None:
    with bars.bar("installing", len(names)) as advance:
        for name in names:
            try:
                install(name)
            except InstallFailed as error:
                raise click.ClickException(f"{name}: {error}") from None
            advance(1)


def _roster(found: _Found) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, peer in PEERS.items():
        row: dict[str, Cell] = {"peer": name, "about": peer.about}
        match found.get(name):
            case Found(_, versions):
                row["versions"] = ", ".join(f"{package} {version}" for package, version in versions.items())
            case Missing(line):
                row["install"] = line
            case None:
                row["versions"] = "left out, as asked"
        rows.append(row)
    return Table("peers", _PEER_COLUMNS, rows)


def _compare(names: Collection[str], found: _Found, rounds: int, share: float, bars: Bars) -> list[Table]:
    tables, answers = [], []
    with bars.bar("comparisons", len(names)) as advance:
        for name in names:
            comparison = COMPARISONS[name]
            figures = _measure(comparison, found, rounds, share, bars)
            tables.append(Table(comparison.title, _columns(comparison), _rows(comparison, figures)))
            answers += [{"comparison": name, **budget.answer(figures)} for budget in comparison.budgets]
            advance(1)
    return [Table("budgets", _BUDGET_COLUMNS, answers), *tables]


def _measure(
    comparison: Comparison, found: _Found, rounds: int, share: float, bars: Bars
) -> Mapping[str, list[Figures]]:
    runners = {}
    for name in comparison.contenders:
        place = found.get(comparison.contender(name).peer)
        if isinstance(place, Found):
            runners[name] = place.python
    for name, python in runners.items():
        comparison.check(name, python, bars)
    figures: dict[str, list[Figures]] = defaultdict(list)
    names = list(runners)
    with bars.bar(comparison.title.partition(",")[0], rounds * len(names)) as advance:
        for turn in range(rounds):
            first = turn % max(1, len(names))
            for name in names[first:] + names[:first]:
                figures[name].append(comparison.measure(name, runners[name], share, bars))
                advance(1)
    return figures


def _columns(comparison: Comparison) -> dict[str, str]:
    first, *others = comparison.columns.items()
    return dict([("contender", "contender"), first, ("lowest", "lowest"), ("highest", "highest"), *others])


def _rows(comparison: Comparison, figures: Mapping[str, list[Figures]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in comparison.contenders:
        if not figures.get(name):
            rows.append({"contender": f"{name}: missing"})
            continue
        medians = {key: spread([each[key] for each in figures[name]])[0] for key in comparison.columns}
        _, low, high = spread([each[next(iter(comparison.columns))] for each in figures[name]])
        rounds = [dict(each) for each in figures[name]]
        rows.append({"contender": name, **medians, "lowest": low, "highest": high, "rounds": rounds})
    return rows
