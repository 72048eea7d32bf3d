"""A session: chunks in, results out, in order, with an account of every chunk.

    async with open_session(manifest, registry=BUILTIN) as session:
        await session.send(Chunk(audio, sequence=0))
        await session.close()
        async for event in session:
            ...

Rules kept here:
- `receive` returns results, errors that concern a chunk, periodic metrics and, at the end, the failure if there was one
  and the final metrics. A call of `receive` means that the previous event has been handed over: its credit is returned
  and its latency is taken then.
- One reader offers chunks, one writer receives events. Both may be the same task, if it never sends more than
  `Ready.input_capacity` chunks, or more than fit the memory limit, without receiving.
- After any ending, no task is left, every node has been closed once, and the ledger balances.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

from engine.errors import EngineError, InternalFault, SessionClosed
from engine.limits import ResourceLimits, SessionOptions
from engine.manifest.plan import Plan
from engine.messages import BadChunk, Chunk, Ready, SessionMetrics
from engine.pipeline import RunningPipeline
from engine.pipeline.row import Row
from engine.runtime.engine import Engine
from engine.session.accounts import Accounts
from engine.session.admission import Admission
from engine.session.chunk_checks import ChunkValidator
from engine.session.outbox import Entry, Event, Marker, Outbox
from engine.session.results import ResultMaker
from engine.session.waiters import Waiters

__all__ = ["Session"]


class Session:
    """One client's running pipeline, made by `open_session`.

    Attributes:
      ready: Id, delay and credits.
      pipeline: The running graph.
      accounts: Chunks, memory and latencies.
      failure: The error that ends or ended the session; None if there is none, as after CLOSE or CANCEL.
    """

    def __init__(self, plan: Plan, engine: Engine, limits: ResourceLimits, options: SessionOptions) -> None:
        self._sweep = engine.sweep
        self._metrics_interval = options.metrics_interval_ms / 1000
        self.accounts = Accounts(limits.max_memory_bytes)
        takes = {name: planned.node.takes for name, planned in plan.sources.items()}
        self._admission = Admission(takes, options, self.accounts.ledger, self.accounts.memory)
        self._validator = ChunkValidator(plan.sources, limits)
        self._outbox = Outbox(self._admission.capacity, events_of=self._events_of, handed_over=self._handed_over)
        self.pipeline = RunningPipeline(
            plan,
            capacity=self._admission.capacity,
            memory=self.accounts.memory,
            timeout_s=limits.max_timeout_ms / 1000,
            threads=engine.threads,
            watchdog=engine.watchdog,
            on_done=self._outbox.put,
            on_failed=self.fail,
        )
        self._results = ResultMaker(plan, self.pipeline.tasks, options.lean)
        self._room = Waiters()
        self._closing = self._ended = False
        self._since_metrics = 0.0
        self.failure: EngineError | None = None
        self.ready = Ready(uuid.uuid4().hex, plan.delay_s() * 1e3, self._admission.capacity)

    @property
    def source_ids(self) -> tuple[str, ...]:
        """Ids of the nodes that take chunks."""
        return tuple(self.pipeline.plan.sources)

    # ---- input

    def offer(self, chunk: Chunk | BadChunk, *, at_once: bool = False) -> bool:
        """Offer a chunk: take it if there is room, or answer it with an error if it is refused.

        Args:
          chunk: The chunk.
          at_once: Run the nodes on it here and now, for at most one scheduler run, which saves waking a task.

        Returns:
          False if there is no room now: wait for `room`, then offer the chunk again.

        Raises:
          SessionClosed: the session has ended.
        """
        self._check_open()
        # `has_room` may have made waiting rows ready. If any enter, their return makes room and wakes the client, so
        # that it can wait. If all were too old and dropped, nothing is under way, and nothing would wake it: ask again.
        while not self._admission.has_room(chunk.nbytes):
            self._enter_ready()
            if self._admission.is_under_way:
                return False
        try:
            self._take(chunk)
        except EngineError as error:
            self._reply(error, chunk.sequence)
        self._enter_ready(at_once=at_once)
        return True

    def try_flush(self, *, final: bool = False) -> bool:
        """Take a FLUSH, or with `final` a CLOSE, if there is a credit for it; return False if there is none now.

        Raises:
          SessionClosed: the session has ended.
        """
        self._check_open()
        if final and self._closing:
            return True
        while not self._admission.has_credit():  # as in `offer`
            self._enter_ready()
            if self._admission.is_under_way:
                return False
        if self._closing:
            self._reply(SessionClosed("there is nothing to flush: the session has been closed"), None)
            return True
        self._closing = final
        self._validator.flush()
        self._admission.flush(final=final)
        self._enter_ready()
        return True

    async def room(self) -> None:
        """Wait until a credit may have been returned; return at once if the session has ended."""
        if not self._ended:
            await self._room.wait()

    async def send(self, chunk: Chunk | BadChunk) -> None:
        """Offer a chunk, and wait for room as long as necessary: this is the backpressure.

        Raises:
          SessionClosed: the session has ended.
        """
        while not self.offer(chunk):
            await self.room()

    async def flush(self) -> None:
        """Make every node emit its tail, in a result marked `flush`; the session continues after that."""
        while not self.try_flush():
            await self.room()

    async def close(self) -> None:
        """Flush, and take no more chunks. The session ends when all results have been received."""
        while not self.try_flush(final=True):
            await self.room()

    async def close_for(self, reason: EngineError) -> None:
        """Close the session on the server's behalf.

        `reason` becomes the session's failure, unless the client had already closed it.
        """
        if not self._closing:
            await self.close()
            self.failure = self.failure or reason

    def end_source(self, source: str) -> None:
        """Note that a source has sent its last chunk, so that rows need not wait for it."""
        if name := self._validator.resolve_source(source):
            self._admission.end_source(name)
            self._enter_ready()

    def cancel(self) -> None:
        """End at once, and discard all events not received yet. Only the final metrics remain to be received."""
        if not self._ended:
            self._outbox.discard(self.accounts.lost, received=False)
            self._end()

    def fail(self, error: EngineError) -> None:
        """End at once with a failure. Rows already done are still delivered, before the failure."""
        if not self._ended:
            self.failure = error
            self._end()

    def fail_last_row(self, error: EngineError) -> None:
        """Fail the session because the last row's result cannot be made or encoded; later rows are lost."""
        self._outbox.discard(self.accounts.lost, received=True)
        self._fail_again(error)

    def _fail_again(self, error: EngineError) -> None:
        """End with a failure found late. It replaces an earlier failure, because its row comes before that one's."""
        self.failure = error
        if self._ended:
            self._outbox.put(Marker.END)  # the first marker was discarded with the later rows
        self._end()

    # ---- output

    async def receive(self) -> Event | None:
        """Return the next event, or None when the session has ended and all events have been received.

        A call means that the previous event has been handed over.
        """
        return await self._outbox.receive()

    def show_to(self, on_event: Callable[[Event], bool] | None) -> None:
        """Pass events to a callback as soon as they exist, while `receive` waits for one.

        Args:
          on_event: Callback; if it returns True, the event counts as received, and the task in `receive` is not woken.
            None removes the callback.
        """
        self._outbox.on_event = on_event

    def __aiter__(self) -> Session:
        """Iterate over all events, then raise the failure if there was one. A loop may be left and resumed."""
        return self

    async def __anext__(self) -> Event:
        if (event := await self.receive()) is not None:
            return event
        raise self.failure or StopAsyncIteration

    def metrics(self, *, final: bool = False) -> SessionMetrics:
        """Return the session's current account."""
        pipeline = self.pipeline
        pipeline.poll_memory()
        figures = {task.planned.id: task.figures() for task in pipeline.tasks}
        return self.accounts.metrics(self.ready.session_id, figures, pipeline.delay_s() * 1e3, final=final)

    # ---- time

    def tick(self, clock: float, step: float) -> None:
        """Apply all limits and intervals of time; called by the sweep."""
        if self._ended:
            return
        if not self._room.count:  # rows age only while the client is not made to wait
            self._admission.advance(step)
        self._enter_ready()
        self.pipeline.tick(clock, step)
        self._since_metrics += step
        if self._since_metrics >= self._metrics_interval and not self._ended:
            self._since_metrics = 0.0
            self._outbox.put_metrics()

    # ---- internals

    def _check_open(self) -> None:
        if self._ended:
            raise SessionClosed("the session has ended")

    def _take(self, chunk: Chunk | BadChunk) -> None:
        """Check a chunk and admit it.

        Raises:
          EngineError: the chunk is refused; the ledger has counted it.
        """
        try:
            if self._closing:
                raise SessionClosed("the session takes no more chunks: it has been closed")
            if isinstance(chunk, BadChunk):
                raise chunk.error
            name = self._validator.check(chunk)
        except EngineError:
            source = (
                "" if self._closing else self._validator.resolve_source(chunk.source)
            )  # after CLOSE there are no holes
            self._admission.refuse(source, chunk.sequence)
            raise
        self._admission.offer(chunk, name)
        self._validator.accepted(name, chunk)

    def _reply(self, error: EngineError, sequence: int | None) -> None:
        if error.sequence is None:
            error.sequence = sequence
        self._admission.take_reply()
        self._outbox.put(error)

    def _enter_ready(self, *, at_once: bool = False) -> None:
        if self._admission.ready and not self._ended and (rows := self._admission.take_ready(perf_counter())):
            self.pipeline.enter(rows, self._sweep.clock, at_once=at_once)

    def _events_of(self, entry: Entry) -> Iterable[Event]:
        """Make the events of an entry of the outbox."""
        if isinstance(entry, Row):
            try:
                return (*entry.rejections, self._results.make(entry, self.accounts.memory.peak))
            except EngineError as error:
                self.fail_last_row(error)
                return ()
        if isinstance(entry, EngineError):
            return (entry,)
        return (self.metrics(),) if entry is Marker.METRICS else self._last_events()

    def _handed_over(self, handed: Row | EngineError) -> None:
        """Return the credits of a row or refusal that has been handed over; account for the row and its latency."""
        if isinstance(handed, Row):
            self.accounts.handed_over(handed)
            self._admission.return_row(handed)
            if handed.final:
                self._end()
        else:
            self._admission.return_reply()
        self._enter_ready()
        self.wake()

    def wake(self) -> None:
        """Wake all tasks that wait in `room`."""
        self._room.wake()

    def _end(self) -> None:
        """Stop the graph, count the lost chunks as cancelled, and put the end marker into the outbox."""
        if self._ended:
            return
        self._ended = True
        self.accounts.ledger.cancelled += self._admission.abandon()
        for row in self.pipeline.rows:
            self.accounts.lost(row)
        self.pipeline.cancel()
        self._outbox.put(Marker.END)
        self.wake()

    def _last_events(self) -> Iterator[Event]:
        try:
            self.accounts.ledger.check_closed()
        except InternalFault as fault:
            self.failure = self.failure or fault
        if self.failure is not None:
            yield self.failure
        yield self.metrics(final=True)

    def check_balance(self) -> None:
        """Count rows never received as cancelled, and check the ledger; called when the session's tasks have ended.

        Raises:
          InternalFault: the ledger does not balance.
        """
        self._end()
        self._outbox.discard(self.accounts.lost, received=True)
        self.accounts.ledger.check_closed()

    def release(self) -> None:
        """Break reference cycles at the end, so that the session is freed without a garbage collection."""
        self._outbox.release()
        self.pipeline.release()
