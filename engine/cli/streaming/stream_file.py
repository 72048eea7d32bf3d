"""Streaming as `stream`, `run` and `demo` share it: from a job and an open session to an exit code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from engine.cli.reports.console import ConsoleReport
from engine.cli.reports.output_files import OutputFiles
from engine.cli.reports.report import JsonReport, Report
from engine.cli.streaming.audio_files import AudioFile, open_audio
from engine.cli.streaming.drive import Interruption, drive, run_command
from engine.cli.streaming.feeder import Feeder
from engine.cli.streaming.job import Job
from engine.cli.streaming.sessions import AnySession

__all__ = ["OpenSession", "make_report", "stream_file", "stream_job"]

OpenSession = Callable[[], AbstractAsyncContextManager[AnySession]]


def make_report(job: Job, audio: AudioFile, side: str) -> Report:
    """Make the report for a job: JSON lines, or a report for people.

    Args:
      job: Job to report on.
      audio: Audio file of the job.
      side: Place where the session runs: "server" or "engine".
    """
    name = job.manifest.name or "pipeline"
    if job.as_json:
        return JsonReport(
            {
                "file": audio.name,
                "duration_s": round(audio.duration_s, 3),
                "sample_rate": audio.sample_rate,
                "channels": audio.channels,
                "source": job.source,
                "chunk_ms": job.pace.chunk_ms,
                "realtime": job.pace.realtime,
                "pipeline": {"name": name, "nodes": {node.id: node.node_type for node in job.manifest.nodes}},
            }
        )
    pace = "in real time" if job.pace.realtime else "as fast as it goes"
    channels = "mono" if audio.channels == 1 else f"{audio.channels} channels"
    head = [
        ("audio", f"{audio.name}, {audio.duration_s:.2f} s at {audio.sample_rate} Hz, {channels}"),
        ("sent", f"{job.pace.chunk_ms:g} ms at a time as {job.pace.sample_format}, {pace}"),
        ("through", f"{name}: " + ", ".join(f"{node.id} ({node.node_type})" for node in job.manifest.nodes)),
    ]
    node_types = {node.id: node.node_type for node in job.manifest.nodes}
    return ConsoleReport(head, audio.duration_s, node_types, side=side, realtime=job.pace.realtime)


async def stream_file(
    job: Job, audio: AudioFile, open_session: OpenSession, report: Report, interruption: Interruption
) -> int:
    """Stream an open file through a session, report the events, and return the exit code."""
    async with open_session() as session:
        files = None if job.out_dir is None else OutputFiles(job.out_dir)
        tally = await drive(session, Feeder(audio, job.source, job.pace), report, interruption, files)
        return tally.exit_code


def stream_job(job: Job, open_session: OpenSession, side: str) -> int:
    """Open the job's file, stream it through a new session, and return the exit code."""
    with open_audio(job.file) as audio:
        report = make_report(job, audio, side)

        async def body(interruption: Interruption) -> int:
            return await stream_file(job, audio, open_session, report, interruption)

        return run_command(body, report)
