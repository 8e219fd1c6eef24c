"""A child computes for six seconds, and then waits for a lock that is never given back."""

import time
from multiprocessing import Lock, Process


def compute_then_wait(lock):
    while time.process_time() < 6:
        sum(range(1000))
    lock.acquire()


if __name__ == "__main__":
    lock = Lock()
    lock.acquire()
    child = Process(target=compute_then_wait, args=(lock,))
    child.start()
    child.join()
