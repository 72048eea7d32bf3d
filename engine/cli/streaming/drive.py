"""Run a session for a command: one task sends, one receives, one waits for Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable

import attrs
import trio

from engine.cli.common.explanations import explain, nobody_reads
from engine.cli.common.failures import FAILED
from engine.cli.reports.output_files import OutputFiles
from engine.cli.reports.report import Report
from engine.cli.reports.tally import Tally
from engine.cli.streaming.feeder import Feeder
from engine.cli.streaming.sessions import AnySession
from engine.errors import EngineError
from engine.messages import Result, SessionMetrics

__all__ = ["Interruption", "drive", "run_command"]

_CANCEL_GRACE_S = 3.0
_BREAK_GRACE_S = 5.0


@attrs.define(eq=False)
class Interruption:
    """Ctrl-C or SIGTERM. The first signal cancels the session and waits for its last events; a second ends at once.

    Outside a session, the first signal ends the command at once.

    Attributes:
      scope: Scope of the whole command.
      signum: Number of the first signal, or 0.
      came: Set by the first signal.
      in_session: True while a session runs.
    """

    scope: trio.CancelScope
    signum: int = 0
    came: trio.Event = attrs.field(factory=trio.Event)
    in_session: bool = False

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle signals until cancelled."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for signum in signals:
                if self.came.is_set() or not self.in_session:
                    self.scope.cancel()
                self.signum = self.signum or signum
                self.came.set()


def run_command(body: Callable[[Interruption], Awaitable[int]], report: Report) -> int:
    """Run an async command and return its exit code; expected errors are reported, and signals end the command."""
    try:
        return trio.run(_run_interruptibly, body)
    except BaseExceptionGroup as group:
        error: BaseException = _first(group)
        cause: BaseException = group
    except Exception as single:
        error = cause = single
    if nobody_reads(error):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    explained = explain(error)
    if explained is None:
        raise cause
    report.failed(explained[0], error)
    return explained[1]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception of a group, searching nested groups."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


async def _run_interruptibly(body: Callable[[Interruption], Awaitable[int]]) -> int:
    async with trio.open_nursery() as nursery:
        interruption = Interruption(nursery.cancel_scope)
        await nursery.start(interruption.watch)
        code = await body(interruption)
        nursery.cancel_scope.cancel()
        return code
    return 128 + interruption.signum


async def drive(
    session: AnySession,
    feeder: Feeder,
    report: Report,
    interruption: Interruption,
    files: OutputFiles | None = None,
) -> Tally:
    """Send the feeder's audio to a session and report every event, until the end or the first signal.

    Returns the tally however the session ends, after the report has shown its summary. Expected failures are in the
    tally, not raised.
    """
    driver = _Driver(session, feeder, report, files)
    interruption.in_session = True
    try:
        await driver.run(interruption)
    finally:
        interruption.in_session = False
        driver.tally.interrupted_by = interruption.signum
        if files is not None:
            files.close()
        if not nobody_reads(driver.tally.failure):
            report.summary(driver.tally, files)
    return driver.tally


class _Driver:
    def __init__(self, session: AnySession, feeder: Feeder, report: Report, files: OutputFiles | None) -> None:
        self.tally = Tally(ready=session.ready)
        self._session, self._feeder, self._report, self._files = session, feeder, report, files
        self._began = trio.current_time()
        self._receiving = trio.CancelScope()

    async def run(self, interruption: Interruption) -> None:
        self._report.ready(self.tally)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._feed)
                nursery.start_soon(self._cancel_when, interruption)
                await self._receive()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            self.tally.fail(_first(group))
            if explain(_first(group)) is None:
                raise
        finally:
            self.tally.elapsed_s = trio.current_time() - self._began

    async def _feed(self) -> None:
        try:
            await self._feeder.run(self._session)
        except trio.BrokenResourceError:  # as a rule, receiving raises the reason first
            await trio.sleep(_BREAK_GRACE_S)
            raise

    async def _cancel_when(self, interruption: Interruption) -> None:
        await interruption.came.wait()
        self._feeder.stop()
        with trio.move_on_after(_CANCEL_GRACE_S):
            await self._feeder.stopped.wait()
            await self._session.cancel()
            await trio.sleep_forever()
        self._receiving.cancel()

    async def _receive(self) -> None:
        with self._receiving:
            while (event := await self._session.receive()) is not None:
                if isinstance(event, Result):
                    self._on_result(event)
                elif isinstance(event, SessionMetrics):
                    self.tally.metrics = event
                    self._report.metrics(self.tally, event)
                else:
                    self._on_error(event)

    def _on_result(self, result: Result) -> None:
        tally, now = self.tally, trio.current_time()
        set_out = None
        if result.sequence is not None and not result.flush:
            set_out = self._feeder.times.take(result.sequence)
            tally.results += 1
        latency_ms = None if set_out is None else (now - set_out) * 1e3
        if latency_ms is not None:
            tally.latencies.record(latency_ms)
            tally.last_ms = latency_ms
            tally.heard_s = self._feeder.end_of(result.sequence or 0)
        tally.sent_s, tally.elapsed_s = self._feeder.sent_s, now - self._began
        self._report.result(tally, result, latency_ms)
        for node, output in result.outputs.items():
            if output.data is not None:
                for segment in tally.speech.hear(node, output.data.value):
                    self._report.segment(tally, segment)
                if (text := output.data.value.get("text")) and isinstance(text, str):
                    self._report.text(tally, node, text)
        if self._files is not None:
            self._files.write(result)

    def _on_error(self, error: EngineError) -> None:
        self.tally.errors += 1
        self.tally.last_error = error
        self._report.error(self.tally, error)
