"""Two processes that compute until the given time is over, and a first one that joins them."""

import multiprocessing
import sys
import time


def compute(seconds):
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=compute, args=(float(sys.argv[1]),)) for _ in range(2)]
    for child in children:
        child.start()
    if sys.argv[2:] == ["slowly"]:
        # Somebody else waits, too: who knows for whom.
        source, _ = context.Pipe(duplex=False)
        source.poll(float(sys.argv[1]))
    for child in children:
        child.join()
