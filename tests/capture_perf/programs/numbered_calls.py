"""Two processes make calls as fast as they can, each with its number as offset, and write down when.

    numbered_calls.py FOLDER

FOLDER/0 and FOLDER/1: CLOCK_MONOTONIC nanoseconds before every 1,000th call, as int64, zero beyond the last.
Never ends by itself.
"""

import mmap
import os
import struct
import sys
import time

MOMENTS = 100_000
folder = sys.argv[1]
writer = 0 if os.fork() else 1
with open(os.path.join(folder, str(writer)), "w+b") as file:
    file.truncate(8 * MOMENTS)
    moments = mmap.mmap(file.fileno(), 8 * MOMENTS)
nowhere = os.open("/dev/null", os.O_WRONLY)
pwrite, number = os.pwrite, 0
for moment in range(MOMENTS):
    struct.pack_into("<q", moments, 8 * moment, time.monotonic_ns())
    for number in range(1_000 * moment, 1_000 * moment + 1_000):
        pwrite(nowhere, b"x", number)
