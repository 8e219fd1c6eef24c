# cause:   the parent joins two children that compute
# expect:  verdict=running pattern=- load=yes
import multiprocessing
import os
import time


def compute():
    os.nice(19)
    end = time.monotonic() + 40
    while time.monotonic() < end:
        sum(range(500))


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=compute) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
