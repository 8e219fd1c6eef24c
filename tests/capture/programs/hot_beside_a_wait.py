"""A thread waits for a lock while another makes thousands of calls a second, and then waits for a line itself.

To be found: the stack of the one that waits, and not at the expense of the one that works.
"""

import os
import sys
import threading
import time

BEFORE, BESIDE = 5_000, 30_000


def waits_here(lock):
    lock.acquire()


zero = os.open("/dev/zero", os.O_RDONLY)
for _ in range(BEFORE):
    os.read(zero, 1)
taken = threading.Lock()
taken.acquire()
thread = threading.Thread(target=waits_here, args=(taken,))
thread.start()
for _ in range(BESIDE):
    os.read(zero, 1)
print(time.monotonic_ns(), flush=True)
sys.stdin.readline()
taken.release()
thread.join()
