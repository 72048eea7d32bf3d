"""Peers: each does the same work and reports it; speed is not tested."""

from __future__ import annotations

import json
import socket
import struct
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import numpy as np
import pytest
from click import ClickException
from click.testing import CliRunner
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.__main__ import main
from benchmarks.load.script import Kind
from benchmarks.load.websocket_wire import WebSocketWire
from benchmarks.peers import checking, pipecat_frames, roster
from benchmarks.peers.chains.meter import Meter
from benchmarks.peers.checking import CHECKED, right_answers
from benchmarks.peers.comparisons import COMPARISONS, Budget
from benchmarks.peers.contenders import CHAINS, SERVERS
from benchmarks.report.progress import progress


def peers(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    """Run the command; return its tables, by title."""
    told = CliRunner().invoke(main, ["peers", "--rounds", "1", "--json", *arguments], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return {table["title"]: table["rows"] for table in json.loads(told.stdout)["tables"]}


# ---- the same work


@pytest.mark.parametrize(("server", "comparison"), [("grpcio", "speech"), ("purerpc", "echo"), ("headrace", "speech")])
def test_a_server_answers_right(server: str, comparison: str) -> None:
    python = roster.find(SERVERS[server].peer)
    assert isinstance(python, roster.Found)
    with progress() as bars:
        COMPARISONS[comparison].check(server, python.python, bars)


def test_the_check_has_speech_and_silence_to_tell_apart() -> None:
    right = right_answers(CHECKED["speech"])
    assert set(right.decisions) == {"0", "1"}
    assert sum(right.frames) == 50 * 320 - 19  # the filter holds back 19 frames at the end
    assert not right.faults(right)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"decisions": "0" * 33}, "decisions"),
        ({"frames": (320,) * 50}, "frames"),
        ({"audio": b"\0"}, "audio"),
        ({"levels": np.zeros((50, 2))}, "levels"),
        ({"levels": np.zeros((49, 2))}, "levels"),
    ],
    ids=["decisions", "frames", "audio", "levels", "too-few"],
)
def test_a_wrong_answer_is_named(change: dict[str, Any], fault: str) -> None:
    right = right_answers(CHECKED["speech"])
    assert attrs.evolve(right, **change).faults(right) == [fault]


def test_a_server_that_answers_wrong_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = attrs.evolve(right_answers(CHECKED["vad"]), decisions="1")
    monkeypatch.setattr(checking, "right_answers", lambda stream: wrong)
    with progress() as bars, pytest.raises(ClickException, match=r"driver does not do 'vad' right: .* wrong decisions"):
        COMPARISONS["crowd"].check("driver", roster.find("driver").python, bars)  # type: ignore[union-attr]


def test_a_chain_that_loses_or_alters_a_frame_has_no_figures() -> None:
    for lose in (False, True):
        meter = Meter("one", 20)
        while meter.received < meter.count:
            frame = meter.send()
            meter.receive(b"" if lose and meter.sent == 7 else frame)
        if lose:
            with pytest.raises(SystemExit, match="are not the 20 frames sent, in order"):
                meter.report(bytes)
        else:
            assert meter.report(bytes)["frames"] == 20


# ---- reports


def test_ratios_are_taken_round_by_round() -> None:
    rounds = {"ours": [{"x": 1.0}, {"x": 6.0}, {"x": 3.0}], "theirs": [{"x": 2.0}, {"x": 3.0}, {"x": 4.0}]}
    told = Budget("x", "ours", "theirs", 0.75).answer(rounds)
    assert (told["found"], told["lowest"], told["highest"], told["verdict"]) == (0.75, 0.5, 2.0, "met")
    assert Budget("x", "ours", "theirs", 0.7).answer(rounds)["verdict"] == "MISSED"
    assert Budget("x", "ours", "theirs", 0.8, at_least=True).answer(rounds)["verdict"] == "MISSED"
    assert Budget("x", "ours", "", 3.0, at_least=True).answer(rounds)["verdict"] == "met"
    assert Budget("x", "ours", "nobody", 1.0).answer(rounds)["verdict"] == "not measured"


def test_in_process_chains_take_turns_and_answer_a_budget() -> None:
    tables = peers("--only", "headrace,trio", "--comparisons", "chain-saturated", "--share", "0.01")
    (rows,) = [rows for title, rows in tables.items() if title not in ("peers", "budgets")]
    ran = {row["contender"]: row for row in rows if "rounds" in row}
    assert ran.keys() == {"headrace", "headrace, full results", "trio"}
    assert {row["contender"] for row in rows} >= {f"{name}: missing" for name in CHAINS if name not in ran}
    assert all([each["frames"] for each in row["rounds"]] == [200] for row in ran.values())
    verdicts = {row["against"]: row["verdict"] for row in tables["budgets"]}
    assert verdicts["trio"] in ("met", "MISSED")
    assert verdicts["pipecat"] == "not measured"


def test_a_missing_peer_is_told_with_its_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(roster, "_probe", lambda python, peer: None)
    tables = peers("--only", "mediapipe,gstreamer", "--comparisons", "chain")
    lines = {row["peer"]: row.get("install", row.get("versions")) for row in tables["peers"]}
    assert lines["mediapipe"] == "python -m benchmarks peers --install --only mediapipe"
    assert lines["gstreamer"].startswith("apt-get install -y --no-install-recommends python3-gi ")
    assert lines["pipecat"] == "left out, as asked"


def test_an_unknown_peer_is_refused_with_the_known_ones() -> None:
    told = CliRunner().invoke(main, ["peers", "--only", "pipcat"])
    assert told.exit_code == 2
    assert "'pipcat' is unknown; known are headrace, driver, trio" in " ".join(told.output.replace("│", "").split())


# ---- Pipecat's wire


def pipecat_frame() -> Any:
    """Make the class of the needed part of Pipecat's `Frame`, with protobuf itself."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="frames.proto", package="pipecat", syntax="proto3")
    kinds = {"bytes": field.TYPE_BYTES, "uint32": field.TYPE_UINT32, "string": field.TYPE_STRING}
    messages = {
        "AudioRawFrame": [("audio", 3, "bytes"), ("sample_rate", 4, "uint32"), ("num_channels", 5, "uint32")],
        "MessageFrame": [("data", 1, "string")],
        "Frame": [("audio", 2, ".pipecat.AudioRawFrame"), ("message", 4, ".pipecat.MessageFrame")],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for each, number, kind in fields:
            is_message = kind not in kinds
            message.field.add(
                name=each,
                number=number,
                label=field.LABEL_OPTIONAL,
                type=field.TYPE_MESSAGE if is_message else kinds[kind],
                type_name=kind if is_message else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pipecat.Frame"))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 1920, 70_000])
def test_pipecats_frames_are_what_protobuf_makes_of_them(size: int) -> None:
    frame_type = pipecat_frame()
    frame = frame_type.FromString(pipecat_frames.audio_frame(bytes(size), 48_000))
    assert (len(frame.audio.audio), frame.audio.sample_rate, frame.audio.num_channels) == (size, 48_000, 1)
    message = frame_type(message={"data": json.dumps({"text": "x" * size})}).SerializeToString()
    assert pipecat_frames.kind_of(message) is Kind.ANSWER
    assert pipecat_frames.found_in(message) == {"text": "x" * size}
    assert pipecat_frames.kind_of(frame.SerializeToString()) is Kind.OTHER


def test_the_websocket_client_speaks_rfc_6455() -> None:
    sizes = (5, 125, 126, 65_535, 65_536)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answered = Thread(target=partial(echo_websocket, listener, len(sizes)))
        answered.start()
        wire = WebSocketWire(*listener.getsockname())
        call = wire.call("/")
        wire.socket.settimeout(60)
        came: list[bytes | None] = []
        for size in sizes:
            wire.send(call, wire.framed(bytes([size % 251]) * size))
        while call.status is None:
            while wire.wants_to_write:
                wire.flush()
            came += [message for _, message in wire.receive()]
            if len(came) == len(sizes):
                wire.half_close(call)
        answered.join(60)
        wire.close()
    assert came == [*(bytes([size % 251]) * size for size in sizes), None]


def echo_websocket(listener: socket.socket, messages: int) -> None:
    """Answer a handshake, echo each message unmasked, with a ping before it, and answer the client's close frame."""
    connected, _ = listener.accept()
    with connected, connected.makefile("rb") as stream:
        while stream.readline().strip():
            pass
        connected.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        kinds: list[int] = []
        while kinds[-1:] != [0x88]:
            kind, length = stream.read(2)
            size = {126: 2, 127: 8}.get(length & 0x7F, 0)
            length = int.from_bytes(stream.read(size)) if size else length & 0x7F
            mask = stream.read(4)
            payload = bytes(a ^ mask[i % 4] for i, a in enumerate(stream.read(length)))
            kinds.append(kind)
            if kind == 0x82:
                connected.sendall(b"\x89\x01p\x82" + _length(length) + payload)
        assert (kinds.count(0x82), kinds.count(0x8A)) == (messages, messages)
        connected.sendall(b"\x88\x02" + payload)


def _length(size: int) -> bytes:
    return (
        bytes([size]) if size < 126 else struct.pack(">BH" if size < 1 << 16 else ">BQ", 126 + (size >> 16 > 0), size)
    )
