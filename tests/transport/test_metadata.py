from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.sansio_link import Link, RawClient
from transport.grpc.events import ResponseEnded, ResponseStarted
from transport.grpc.metadata import (
    MAX_STATUS_MESSAGE_BYTES,
    BadHeader,
    decode_message,
    decode_metadata,
    decode_timeout,
    encode_message,
    encode_metadata,
    encode_timeout,
)
from transport.grpc.status import Status, StatusCode

PAIRS = (("plain", "a, b"), ("x-bin", b"\0\1\xff"), ("x-bin", b""), ("plain", "again"))


@given(st.lists(st.tuples(st.just("k-bin"), st.binary(max_size=50))))
def test_bytes_come_back(pairs):
    assert decode_metadata(encode_metadata(pairs)) == tuple(pairs)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("AAE", [b"\0\1"]),
        ("AAE=", [b"\0\1"]),
        ("AAE,AAE=", [b"\0\1", b"\0\1"]),
        ("AAE, /w", [b"\0\1", b"\xff"]),
        ("", [b""]),
        (",", [b"", b""]),
    ],
)
def test_joined_bytes_are_several(value, parts):
    assert decode_metadata([("k-bin", value)]) == tuple(("k-bin", part) for part in parts)


@pytest.mark.parametrize("value", ["!", "AAE=A", "A", "AA E"])
def test_what_is_no_base64(value):
    with pytest.raises(BadHeader, match="k-bin"):
        decode_metadata([("k-bin", value)])


def test_text_is_never_split():
    assert decode_metadata([("k", "a,b")]) == (("k", "a,b"),)


def test_both_kinds_of_metadata_in_both_directions():
    link = Link()
    sid = link.call(metadata=PAIRS)
    assert set(PAIRS) <= set(link.at_server[0].metadata)
    link.server.start_response(sid, PAIRS)
    link.server.end_response(sid, Status(StatusCode.ABORTED, "né", b"\1\2", PAIRS))
    link.pump()
    started, ended = (event for event in link.at_client if isinstance(event, (ResponseStarted, ResponseEnded)))
    assert started.metadata == PAIRS
    assert ended.status == Status(StatusCode.ABORTED, "né", b"\1\2", PAIRS)


def test_a_client_that_joins_its_bytes():
    client = RawClient()
    _, (event,) = client.open([*client.HEADERS, ("k-bin", "AAE,AAE=")])
    assert event.metadata == (("k-bin", b"\0\1"), ("k-bin", b"\0\1"))


@pytest.mark.parametrize(
    ("message", "written"),
    [
        ("plain text, ~!", "plain text, ~!"),
        ("50 %", "50 %25"),
        ("tab\tand\r\nlines", "tab%09and%0D%0Alines"),
        ("é€", "%C3%A9%E2%82%AC"),
        (" outer ", "%20outer%20"),
    ],
)
def test_messages_are_written_as_the_specification_says(message, written):
    assert encode_message(message) == written
    assert decode_message(written) == message


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=MAX_STATUS_MESSAGE_BYTES // 4))
def test_any_message_comes_back(message):
    written = encode_message(message)
    assert written.isascii()
    assert "\n" not in written
    assert decode_message(written) == message


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1000))
def test_a_long_message_is_cut_between_characters(message):
    read = decode_message(encode_message(message))
    assert message.startswith(read)
    assert MAX_STATUS_MESSAGE_BYTES - 4 < len(read.encode()) <= MAX_STATUS_MESSAGE_BYTES


def test_a_message_that_is_badly_written_is_read_as_far_as_it_goes():
    assert decode_message("100%") == "100%"
    assert decode_message("%zz%41") == "%zzA"
    assert decode_message("%FF") == "\ufffd"


@given(st.floats(1e-9, 3e11))
def test_a_timeout_is_never_written_shorter(seconds):
    written = encode_timeout(seconds)
    assert len(written) <= 9
    assert decode_timeout(written) >= seconds * (1 - 1e-12)


@pytest.mark.parametrize("value", ["", "1", "S", "-1S", "1.5S", "123456789S", "1s", "²S", "1S "])
def test_what_is_no_timeout(value):
    with pytest.raises(BadHeader):
        decode_timeout(value)


@pytest.mark.parametrize("code", ["", "x", "-1", "²", "9999999999"])
def test_a_status_that_is_none(code):
    link = Link()
    sid = link.call()
    link.server.h2_connection.send_headers(
        sid, [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", code.encode("latin-1"))]
    )
    link.pump()
    (ended,) = (event for event in link.at_client if isinstance(event, ResponseEnded))
    assert ended.status.code is StatusCode.INTERNAL
