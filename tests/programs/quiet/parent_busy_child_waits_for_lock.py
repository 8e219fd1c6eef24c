# cause:   a child waits for a lock that its parent holds while it computes
# expect:  verdict=running pattern=- load=yes
import multiprocessing
import os
import time


def child(lock):
    with lock:
        print("my turn")


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    lock = context.RLock()
    with lock:
        context.Process(target=child, args=(lock,)).start()
        os.nice(19)
        end = time.monotonic() + 40
        while time.monotonic() < end:
            sum(range(500))
