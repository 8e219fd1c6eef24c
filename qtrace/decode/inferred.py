"""Lengths of messages where nobody saw their headers: what calls asked for tells them.

The perf engine reads no memory, so of most writes the first bytes are unknown. A Connection reads a
message by asking for its 4 bytes of header, and then for the body until it is complete: the second
read says the length. Of what has not been read the writes tell: 4 bytes followed by a body too large
to be sent along, or, on a stream whose other messages were read so, header and body in one.
Anything else is not taken for a Connection's, and its lengths stay unknown.
"""

from __future__ import annotations

import numpy as np

from qtrace.decode.arrays import BoolArray, IntArray

UNSEEN = -3
"""Length of a write whose first bytes could have been a header, and were not seen."""
HEADER_BYTES = 4
TOGETHER_BYTES = 16_384
"""Up to this size header and body are one write (CPython's Connection._send_bytes)."""


def lengths_from_calls(
    length: IntArray,
    written: IntArray,
    write_asked: IntArray,
    write_tid: IntArray,
    taken: IntArray,
    read_asked: IntArray,
) -> IntArray:
    """Return the lengths that the writes of one stream announce, those inferred that were unseen.

    Args:
        length: Of each write: the announced length, `UNSEEN`, or another negative number.
        written: Bytes that it moved, or asked for if it has not returned.
        write_asked: Bytes that it asked for.
        write_tid: Who made it.
        taken: Of each read: bytes that it moved.
        read_asked: Bytes that it asked for.
    """
    unseen = length == UNSEEN
    if not unseen.any():
        return length
    found = length.copy()
    start = np.cumsum(written) - written
    boundary, size = _messages_read(taken, read_asked)
    begins = unseen & np.isin(start, boundary)
    place = np.searchsorted(boundary, start[begins])
    fits = (write_asked[begins] == HEADER_BYTES) | (write_asked[begins] == size[place] + HEADER_BYTES)
    if not fits.all():
        return found
    found[begins] = size[place]
    rest = unseen & ~begins
    if len(boundary):
        rest &= start >= boundary[-1] + size[-1] + HEADER_BYTES
    large = _large_ones(rest, write_asked, write_tid)
    found[large] = write_asked[np.flatnonzero(large) + 1]
    whole = rest & ~large & (write_asked > HEADER_BYTES) & (write_asked <= TOGETHER_BYTES + HEADER_BYTES)
    whole[1:] &= ~large[:-1]
    if len(boundary):
        found[whole] = write_asked[whole] - HEADER_BYTES
    return found


def _large_ones(rest: BoolArray, asked: IntArray, tid: IntArray) -> BoolArray:
    large = np.zeros(len(rest), dtype=bool)
    large[:-1] = rest[:-1] & (asked[:-1] == HEADER_BYTES) & (asked[1:] > TOGETHER_BYTES) & (tid[1:] == tid[:-1])
    return large


def _messages_read(taken: IntArray, asked: IntArray) -> tuple[IntArray, IntArray]:
    """Return where each message that was begun to be read begins in the stream, and its length."""
    nothing = np.zeros(0, dtype=np.int64)
    if not len(taken):
        return nothing, nothing
    # Reads that ask for what the one before was denied go on with it.
    goes_on = np.zeros(len(taken), dtype=bool)
    goes_on[1:] = (asked[:-1] > taken[:-1]) & (asked[1:] == asked[:-1] - taken[:-1])
    first = np.flatnonzero(~goes_on)
    wanted = asked[first]
    got = np.add.reduceat(taken, first)
    begin = np.cumsum(got) - got
    if np.any(wanted[0::2] != HEADER_BYTES) or np.any(got[:-1] != wanted[:-1]):
        return nothing, nothing  # not read as a Connection reads
    pairs = len(wanted) // 2
    return begin[0::2][:pairs], wanted[1::2]
