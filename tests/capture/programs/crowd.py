"""Processes that call all the time, each its own pipe, and one that only sleeps: how far each gets in a second."""

import os
import sys
import time

BUSY = int(sys.argv[1])
SECONDS = 1.0
NAP = 0.01

source, target = os.pipe()
gate, opener = os.pipe()
for _ in range(BUSY):
    if os.fork() == 0:
        inner, outer = os.pipe()
        turns = 0
        os.close(opener)
        os.read(gate, 1)
        start = time.monotonic()
        while time.monotonic() < start + SECONDS:
            os.write(outer, b"x")
            os.read(inner, 1)
            turns += 1
        os.write(target, b"%d\n" % turns)
        os._exit(0)
os.close(opener)
start = time.monotonic()
late = 0.0
while time.monotonic() < start + SECONDS:
    before = time.monotonic()
    time.sleep(NAP)
    late = max(late, time.monotonic() - before - NAP)
for _ in range(BUSY):
    os.wait()
print(late, *(int(word) for word in os.read(source, 4096).split()))
