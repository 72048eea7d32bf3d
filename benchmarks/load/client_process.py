"""Client process: its share of a load's sessions, in one thread, on one core.

The next chunk that is due is known without a queue, because sessions start one after another within a period and keep
the same pace: chunk k of all sessions is due before chunk k + 1 of any.
"""

from __future__ import annotations

import gc
import os
import select
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import perf_counter, process_time

import numpy as np

from benchmarks.load.grpc_wire import AnyWire, Call, ConnectionLost, Wire, framed
from benchmarks.load.script import Kind, Load, Report, Script, Share

__all__ = ["run"]

PROGRESS_EVERY_S = 0.25
KEEP_ERRORS = 5
CLOSING_S = 10.0


def run(share: Share, pipe: Connection) -> None:
    """Run the process, and report its steps through the pipe as (kind, value).

    Sends "opened", receives the time to begin, sends "progress" as answers arrive, and then "answered". On the next
    message it closes the sessions and sends "report". An error is sent as "failed".
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    try:
        clients = Clients(share, pipe)
        clients.open()
        pipe.send(("opened", None))
        clients.follow(pipe.recv())
        pipe.send(("answered", None))
        pipe.recv()
        clients.close()
        pipe.send(("report", clients.report))
    except (OSError, ConnectionLost) as error:
        pipe.send(("failed", f"{share.host}:{share.port}: {error}"))


class _Session:
    """Call of a session, and its progress."""

    def __init__(self, row: int, wire: AnyWire, call: Call) -> None:
        self.row = row
        self.wire = wire
        self.call = call
        self.answered = 0
        self.greeted = 0


_Handler = Callable[[_Session, bytes | None, float], None]


class _Beside:
    """Session that sends all its chunks at once, and reads slowly or not at all."""

    def __init__(self, script: Script, wire: Wire, reads_per_s: float) -> None:
        self._wire = wire
        self._reads_per_s = reads_per_s
        self._began: float | None = None
        self._credited = 0
        self.call = wire.call(script.path)
        self.call.reads = False
        for message in (*script.opening, *script.chunks):
            wire.send(self.call, framed(message))

    def read(self, now: float) -> None:
        """Give credit for the bytes that the session may have read by now."""
        self._began = now if self._began is None else self._began
        allowed = int((now - self._began) * self._reads_per_s) - self._credited
        self._credited += self._wire.credit(self.call, allowed)


class Clients:
    """Sessions of one process.

    Attributes:
      report: Figures so far.
    """

    def __init__(self, share: Share, pipe: Connection) -> None:
        self._load: Load = share.load
        self._script = share.load.script
        self._pipe = pipe
        self._offsets = [i / share.load.sessions * share.load.period_s for i in share.sessions]
        shape = (len(share.sessions), len(self._script.chunks))
        self.report = Report(due=np.full(shape, np.nan), received=np.full(shape, np.nan), late_s=np.zeros(0))
        self._wires = [self._script.connect(share.host, share.port) for _ in range(share.connections)]
        self._framed = self._wires[0].framed
        self._chunks = [self._framed(chunk) for chunk in self._script.chunks]
        self._by_socket = {wire.socket: wire for wire in self._wires}
        self._sessions: list[_Session] = []
        self._by_call: dict[Call, _Session] = {}
        self._open_answers = len(share.sessions) * len(self._chunks)
        self._reported_at, self._unreported = 0.0, 0
        for row in range(len(share.sessions)):
            wire = self._wires[row % len(self._wires)]
            session = _Session(row, wire, wire.call(self._script.path))
            self._sessions.append(session)
            self._by_call[session.call] = session
        self._beside = self._open_beside() if 0 in share.sessions else None

    def _open_beside(self) -> _Beside | None:
        if (script := self._load.beside) is None:
            return None
        wire = self._wires[0]
        assert isinstance(wire, Wire)  # other wires have no windows to keep shut
        return _Beside(script, wire, self._load.beside_reads_per_s)

    def open(self) -> None:
        """Open every session, and wait until the server has reported all of them ready."""
        opening = [self._framed(message) for message in self._script.opening]
        for session in self._sessions:
            for message in opening:
                session.wire.send(session.call, message)
        while any(session.greeted < self._script.ready_after for session in self._sessions):
            self._turn(None, self._greet)

    def _greet(self, session: _Session, message: bytes | None, now: float) -> None:
        if message is None:
            raise ConnectionLost(f"a session was refused: status {session.call.status}, {session.call.details}")
        session.greeted += 1

    def follow(self, begin: float) -> None:
        """Send all chunks, and read their answers.

        Args:
          begin: Due time of the first session's first chunk.
        """
        gc.collect()
        gc.freeze()
        gc.disable()  # the garbage of a run is bounded
        cpu = process_time()
        if self._load.period_s:
            self._follow_at_pace(begin)
        else:
            self._follow_back_to_back(begin)
        if self._beside is not None:
            self.report.beside_unread_bytes = self._beside.call.uncredited
        self.report.wall_s = perf_counter() - begin
        self.report.cpu_s = process_time() - cpu
        gc.enable()

    def _follow_at_pace(self, begin: float) -> None:
        chunks, sessions = self._chunks, self._sessions
        offsets = np.array(self._offsets)
        self.report.due[:] = begin + offsets[:, None] + np.arange(len(chunks)) * self._load.period_s
        schedule = self.report.due.T.ravel()
        late = self.report.late_s = np.zeros(len(schedule))
        due = schedule.tolist()
        deadline = (due[-1] if due else begin) + self._load.grace_s
        at = 0
        while self._open_answers:
            now = perf_counter()
            while at < len(due) and due[at] <= now:
                number, row = divmod(at, len(sessions))
                session = sessions[row]
                if session.call.status is None:
                    session.wire.send(session.call, chunks[number])
                late[at] = now - due[at]
                at += 1
            if now > deadline:
                return
            self._turn(max(0.0, (due[at] if at < len(due) else deadline) - perf_counter()), self._answer)

    def _follow_back_to_back(self, begin: float) -> None:
        self._turn(max(0.0, begin - perf_counter()), self._answer)
        for session in self._sessions:
            self._send_next(session, perf_counter())
        answered_at = perf_counter()
        while self._open_answers:
            before = self._open_answers
            self._turn(self._load.grace_s, self._answer_and_send_next)
            now = perf_counter()
            if self._open_answers < before:
                answered_at = now
            elif now - answered_at > self._load.grace_s:
                return

    def _send_next(self, session: _Session, now: float) -> None:
        if session.answered < len(self._chunks):
            self.report.due[session.row, session.answered] = now
            session.wire.send(session.call, self._chunks[session.answered])

    def _answer_and_send_next(self, session: _Session, message: bytes | None, now: float) -> None:
        before = session.answered
        self._answer(session, message, now)
        if session.answered > before:
            self._send_next(session, now)

    def _answer(self, session: _Session, message: bytes | None, now: float) -> None:
        if message is None:
            self._open_answers -= len(self._chunks) - session.answered
            self._fail(f"a session ended early: status {session.call.status}, {session.call.details}")
            return
        match self._script.kind_of(message):
            case Kind.ANSWER:
                self.report.received[session.row, session.answered] = now
                session.answered += 1
                self._open_answers -= 1
                self._report_progress(now)
                if self._script.sample_every and session.answered % self._script.sample_every == 0:
                    self.report.kept.append(message)
            case Kind.KEPT:
                self.report.kept.append(message)
            case Kind.ERROR:
                self._fail(message)

    def _fail(self, error: bytes | str) -> None:
        self.report.failed += 1
        if len(self.report.errors) < KEEP_ERRORS:
            self.report.errors.append(error)

    def _report_progress(self, now: float) -> None:
        self._unreported += 1
        if now - self._reported_at > PROGRESS_EVERY_S:
            self._pipe.send(("progress", self._unreported))
            self._reported_at, self._unreported = now, 0

    def close(self) -> None:
        """Close every session, and read the last messages."""
        for session in self._sessions:
            if session.call.status is None:
                for message in self._script.closing:
                    session.wire.send(session.call, self._framed(message))
                session.wire.half_close(session.call)
        deadline = perf_counter() + CLOSING_S
        while any(session.call.status is None for session in self._sessions) and perf_counter() < deadline:
            self._turn(0.1, self._take_last)
        for wire in self._wires:
            wire.close()

    def _take_last(self, session: _Session, message: bytes | None, now: float) -> None:
        if message is None:
            if session.call.status:
                self._fail(f"a session ended badly: status {session.call.status}, {session.call.details}")
        elif (kind := self._script.kind_of(message)) is Kind.KEPT:
            self.report.kept.append(message)
        elif kind is Kind.ERROR:
            self._fail(message)

    def _turn(self, timeout_s: float | None, handle: _Handler) -> None:
        """Write pending data, wait for something to read, and read it."""
        writing = []
        for wire in self._wires:
            if wire.wants_to_write:
                wire.flush()
                if wire.wants_to_write:
                    writing.append(wire.socket)
        readable, _, _ = select.select(list(self._by_socket), writing, (), timeout_s)
        for each in readable:
            came = self._by_socket[each].receive()
            now = perf_counter()
            for call, message in came:
                if (session := self._by_call.get(call)) is not None:
                    handle(session, message, now)
        if self._beside is not None:
            self._beside.read(perf_counter())
