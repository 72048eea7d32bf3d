"""Progress bars, on standard error and only while something runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Advance", "Bars", "no_progress", "progress"]

Advance = Callable[[int], None]


def no_progress(count: int) -> None:
    """Ignore the progress."""


class Bars:
    """Progress bars, each shown while its work runs; made by `progress`."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[Advance]:
        """Show a bar while the block runs; the yielded function takes the number of steps just done."""
        task = self._shown.add_task(text, total=total)
        try:
            yield lambda count: self._shown.advance(task, count)
        finally:
            self._shown.remove_task(task)


@contextmanager
def progress() -> Iterator[Bars]:
    """Show bars while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield Bars(shown)
