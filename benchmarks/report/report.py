"""Report of a benchmark: shown in the terminal, and written as JSON and Markdown."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.report.machine import describe

__all__ = ["Report", "Table", "publish", "report_options"]

Cell = float | int | str | None
F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Table:
    """Rows of figures.

    Attributes:
      title: Description of the rows.
      columns: Key of a row → heading, with the unit; further keys are only in the JSON.
      rows: Figures by key.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]

    def cells(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[_text(row.get(key)) for key in self.columns] for row in self.rows]


@attrs.frozen
class Report:
    """Result of a benchmark.

    Attributes:
      name: Name of the command, and of the files.
      tables: Tables of the figures.
      notes: Facts that a reader of the figures needs.
      plots: Names of the plots' files, without suffix.
      packages: Packages to list in addition to Headrace and its dependencies.
      machine: Description of the machine.
      command: Command line that made the report.
    """

    name: str
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    plots: Sequence[str] = ()
    packages: Sequence[str] = ()
    machine: Mapping[str, str] = attrs.field()
    command: str = attrs.field(factory=lambda: shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]))

    @machine.default
    def _describe(self) -> Mapping[str, str]:
        return describe(*self.packages)

    def as_json(self) -> str:
        """Return the whole report as JSON; infinite and undefined figures are null."""
        tables = [{"title": each.title, "rows": [dict(row) for row in each.rows]} for each in self.tables]
        found = {"command": self.command, "machine": dict(self.machine), "notes": list(self.notes), "tables": tables}
        return json.dumps(_finite(found), indent=1, allow_nan=False)

    def as_markdown(self) -> str:
        """Return the report as Markdown."""
        parts = [f"`{self.command}`", self.header()]
        for table in self.tables:
            lines = [f"**{table.title}**", "", _line(table.columns.values()), "|" + "---|" * len(table.columns)]
            parts.append("\n".join([*lines, *(_line(cells) for cells in table.cells())]))
        parts += self.notes
        parts += [f"![{plot}]({plot}.png)" for plot in self.plots]
        return "\n\n".join(parts) + "\n"

    def header(self) -> str:
        """Return the machine and the versions, in a line."""
        return ", ".join(f"{name} {value}" for name, value in self.machine.items())

    def show(self, console: Console) -> None:
        """Print the report."""
        console.print(self.header())
        for table in self.tables:
            shown = RichTable(
                title=table.title, box=SIMPLE_HEAD, title_justify="left", collapse_padding=True, pad_edge=False
            )
            for heading in table.columns.values():
                shown.add_column(heading, justify="right")
            for cells in table.cells():
                shown.add_row(*cells)
            console.print(shown)
        for note in self.notes:
            console.print(note)


def _line(cells: Sequence[str] | Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(value: Cell) -> str:
    """Format a figure with three significant digits; whole numbers and figures from 100 on without decimals."""
    if value is None or isinstance(value, str):
        return value or ""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
    click.option(
        "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write JSON and Markdown here."
    ),
)


def report_options(command: F) -> F:
    """Add the options that `publish` takes to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def publish(report: Report, as_json: bool, out: Path | None) -> None:
    """Print a report, and write it to the directory `out`, if there is one.

    Raises:
      ClickException: the report cannot be written.
    """
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{report.name}.json").write_text(report.as_json() + "\n")
            (out / f"{report.name}.md").write_text(report.as_markdown())
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    if as_json:
        print(report.as_json())
    else:
        report.show(Console(width=None if sys.stdout.isatty() else 140, highlight=False))
