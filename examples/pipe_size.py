"""Writes ever more into a pipe that nobody reads, to see how much it holds.

Expected verdict: orphaned, pattern self-pipe-full.
    65,535 and 65,536 bytes pass; 65,537 bytes do not fit, and the only process that could read them
    is the one that writes.
"""
import os

for size in (65535, 65536, 65537):
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "wb") as writer:
        writer.write(b"\x00" * size)
    print("size", size, "passes", flush=True)
