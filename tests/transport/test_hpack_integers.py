"""The check in front of hpack: it refuses oversized integers, and nothing else."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.grpc.hpack_integers import has_oversized_integer

LONG = b"\xff" * 5 + b"\x0f"  # 7 bits and five times 7: more than 32


@pytest.mark.parametrize(
    "block",
    [
        b"\xff" + b"\xff" * 5,
        b"\xff" + b"\x80" * 5 + b"\0",  # small, but too long
        b"\x7f" + LONG,
        b"\x3f" + LONG,
        b"\x0f" + LONG,
        b"\x40\x7f" + LONG,
        b"\x40\x01a\x7f" + LONG,
        b"\x82\x84" + b"\xff" + LONG,
    ],
)
def test_oversized(block):
    assert has_oversized_integer(block)


@pytest.mark.parametrize("block", [b"", b"\x82", b"\xff", b"\x40", b"\x40\x05ab", b"\x40\x7f\xff\xff", b"\xff\xff\x01"])
def test_cut_short_or_unknown_is_left_to_hpack(block):
    assert not has_oversized_integer(block)


TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), min_size=1, max_size=400)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), st.booleans(), st.integers(0, 4096))
def test_what_an_encoder_writes_passes(fields, huffman, table_bytes):
    encoder = hpack.Encoder()
    for _ in range(2):  # the second time by index
        encoder.header_table_size = table_bytes
        block = encoder.encode(fields, huffman=huffman)
        assert not has_oversized_integer(block)


@given(st.binary(max_size=200))
def test_noise_is_judged(noise):
    has_oversized_integer(noise)
