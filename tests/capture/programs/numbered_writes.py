"""Two writers, each with a reader of its own, and numbered messages without end.

`numbered_writes.py FOLDER`: before writer W sends message N (eight bytes, little-endian), it stores
the time (CLOCK_MONOTONIC) at place N of FOLDER/W, for the first million: what a recording has to have is
known exactly.
"""

import itertools
import mmap
import os
import struct
import sys
import threading
import time

MOST = 1_000_000
WRITERS = 2


def write(times, target):
    for number in itertools.count():
        if number < MOST:
            struct.pack_into("<q", times, 8 * number, time.monotonic_ns())
        os.write(target, struct.pack("<Q", number))


def read(source):
    while os.read(source, 8):
        pass


def pair(name):
    with open(name, "w+b") as file:
        file.truncate(8 * MOST)
        times = mmap.mmap(file.fileno(), 8 * MOST)
    source, target = os.pipe()
    if os.fork() == 0:
        os.close(target)
        threading.Thread(target=read, args=(source,)).start()
        return False
    os.close(source)
    if os.fork() == 0:
        write(times, target)
        os._exit(0)
    os.close(target)
    return True


if all(pair(os.path.join(sys.argv[1], str(writer))) for writer in range(WRITERS)):
    for _ in range(2 * WRITERS):
        os.wait()
