"""A check of HPACK's integers before hpack decodes a header block.

hpack before 4.2 decodes integers of any length, in time that grows with the square of the length (CVE-2026-59980).
h2 3 requires hpack 3, so the check stands in front of it.

Rules kept here:
- An integer has at most 32 bits (RFC 7541, 5.1, lets a decoder set such a limit).
- Only the structure of the block is read. Anything else that is wrong with it is left to hpack.
"""

from __future__ import annotations

__all__ = ["has_oversized_integer"]

_SHIFTS = (0, 7, 14, 21, 28)


def has_oversized_integer(block: bytes) -> bool:
    """Return True if the header block has an integer of more than 32 bits."""
    at, end = 0, len(block)
    try:
        while at < end:
            first = block[at]
            if first & 0x80:  # an indexed field
                _, at = _integer(block, at, 0x7F)
            elif first & 0xE0 == 0x20:  # a new size of the table
                _, at = _integer(block, at, 0x1F)
            else:  # a literal: its name, if it has no index, and its value
                index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
                for _ in range(1 if index else 2):
                    length, at = _integer(block, at, 0x7F)
                    at += length
    except OverflowError:
        return True
    except IndexError:  # cut short
        return False
    return False


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return an integer and the place after it.

    Raises:
      OverflowError: It has more than 32 bits.
      IndexError: The block ends inside it.
    """
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in _SHIFTS:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 32:
                break
            return value, at
    raise OverflowError
