"""All inner names of other packages that we use, in one list: a failure here asks for a look at the new version."""

from __future__ import annotations

import ast
import inspect
from importlib.metadata import version
from pathlib import Path

import h2.connection
import h2.events
import h2.windows
import hpack
import pytest
from purerpc.grpclib import connection as purerpc_connection

from transport.grpc.connection import Connection
from transport.grpc.frame_buffer import FrameBuffer
from transport.grpc.http2 import Http2
from transport.grpc.limits import Limits

OVERRIDDEN = {
    (purerpc_connection.GRPCConnection, Connection): {
        "_connection_terminated": "(self, event: h2.events.ConnectionTerminated)",
        "_data_received": "(self, event: h2.events.DataReceived)",
        "_ping_acknowledged": "(self, event: h2.events.PingAcknowledged)",
        "_remote_settings_changed": "(self, event: h2.events.RemoteSettingsChanged)",
        "_request_received": "(self, event: h2.events.RequestReceived)",
        "_response_received": "(self, event: h2.events.ResponseReceived)",
        "_settings_acknowledged": "(self, event: h2.events.SettingsAcknowledged)",
        "_stream_ended": "(self, event: h2.events.StreamEnded)",
        "_stream_reset": "(self, event: h2.events.StreamReset)",
        "_trailers_received": "(self, event: h2.events.TrailersReceived)",
        "_window_updated": "(self, event: h2.events.WindowUpdated)",
        "receive_data": "(self, data: bytes)",
        "start_request": None,
        "start_response": None,
        "end_request": None,
        "end_response": None,
        "initiate_connection": "(self)",
    },
    (h2.connection.H2Connection, Http2): {
        "_receive_data_frame": "(self, frame)",
        "_receive_goaway_frame": "(self, frame)",
        "_receive_headers_frame": "(self, frame)",
        "_receive_priority_frame": "(self, frame)",
        "_receive_settings_frame": "(self, frame)",
        "_receive_window_update_frame": "(self, frame)",
        "MAX_CLOSED_STREAMS": None,
        "open_inbound_streams": None,
        "receive_data": "(self, data)",
    },
}
"""Overridden names by base and subclass, with their signature; None if only our code calls them."""

USED = {
    "its window": [f"_inbound_flow_control_window_manager.{name}" for name in ("_bytes_processed", "max_window_size")],
    "connection": ["_closed_streams", "_data_to_send", "_inbound_flow_control_window_manager", "_prepare_for_sending"],
    "its frames": ["_receive_frame", "_frame_dispatch_table"],
    "its tables": ["encoder.table_size_changes", "encoder.header_table_size", "decoder.max_header_list_size"],
    "its buffer": ["incoming_buffer", "max_inbound_frame_size", "outbound_flow_control_window"],
}
OF_A_STREAM = [
    "_expected_content_length",
    "_inbound_window_manager.window_consumed",
    "_inbound_window_manager.current_window_size",
    "outbound_flow_control_window",
    "state_machine.state",
    "state_machine.headers_received",
    "state_machine.headers_sent",
    "state_machine.stream_closed_by",
]
REACHED = {name for names in USED.values() for name in names if name.startswith("_")}


def looked_up(thing, path):
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def test_the_versions_are_those_that_were_read():
    assert version("purerpc") == "0.8.0"
    assert version("h2").startswith("3.2.")


@pytest.mark.parametrize(
    ("base", "ours", "name", "signature"),
    [(base, ours, name, form) for (base, ours), names in OVERRIDDEN.items() for name, form in names.items()],
)
def test_what_we_override_is_there_to_be_overridden(base, ours, name, signature):
    assert any(name in vars(kind) for kind in ours.__mro__[: ours.__mro__.index(base)])
    assert hasattr(base, name)
    if signature is not None:
        assert str(inspect.signature(getattr(base, name))) == signature


def test_all_that_is_overridden_is_in_the_list():
    for (base, ours), names in OVERRIDDEN.items():
        mine = {name for kind in ours.__mro__[: ours.__mro__.index(base)] for name in vars(kind)}
        known = {name for name in mine if hasattr(base, name) and not name.startswith("__")}
        assert known - set(names) == set()


def test_what_we_use_of_a_connection_is_there():
    connection = Http2(Limits(), client_side=True)
    for names in USED.values():
        for name in names:
            looked_up(connection, name)
    for kind in h2.connection.H2Connection()._frame_dispatch_table.values():
        assert callable(kind)


def test_what_we_use_of_a_stream_is_there():
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    connection.send_headers(1, [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")])
    for name in OF_A_STREAM:
        looked_up(connection.streams[1], name)
    assert connection.streams[1].state_machine.headers_sent is True


def test_our_intake_stands_where_theirs_stood():
    assert isinstance(Http2(Limits(), client_side=False).incoming_buffer, FrameBuffer)
    assert set(h2.connection.FrameBuffer().__dict__) >= {"data", "max_frame_size"}


def test_events_and_windows_are_as_we_make_them():
    assert {"stream_id", "data", "flow_controlled_length"} <= set(vars(h2.events.DataReceived()))
    assert {"stream_id", "error_code", "remote_reset"} <= set(vars(h2.events.StreamReset()))
    assert {"error_code", "last_stream_id", "additional_data"} <= set(vars(h2.events.ConnectionTerminated()))
    assert {"window_consumed", "process_bytes"} <= set(vars(h2.windows.WindowManager))
    assert issubclass(hpack.OversizedHeaderListError, hpack.HPACKError)


def test_nobody_else_uses_inner_names_of_theirs():
    """Outside `http2`, private names of h2's connection are not used."""
    folder = Path(inspect.getfile(Http2)).parents[1]
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            name.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in node.names
        }
        if imported & {"purerpc", "h2", "hpack", "hyperframe"}:
            assert path.name in {"receiving.py", "http2.py", "frame_buffer.py"}
        reached = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and hasattr(h2.connection.H2Connection(), node.attr)
            and not node.attr.startswith("__")
        }
        if path.name == "http2.py":
            known = {name for (_, ours), names in OVERRIDDEN.items() if ours is Http2 for name in names}
            assert reached - known <= REACHED
        else:
            assert not reached
