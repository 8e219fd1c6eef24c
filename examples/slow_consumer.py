"""A producer that is faster than its consumer: not stuck, only slow, and whose fault that is.

Expected verdict: finished. The feeder waits nearly all of the time for room in the pipe: the consumer
is slower than the producer. The report's fill chart shows the pipe full until the end.
"""
import time
from multiprocessing import Process, Queue


def produce(queue):
    for _ in range(60):
        queue.put(bytes(20_000))
    queue.put(None)


if __name__ == "__main__":
    queue = Queue()
    p = Process(target=produce, args=(queue,))
    p.start()
    taken = 0
    while queue.get() is not None:
        taken += 1
        time.sleep(0.02)
    p.join()
    print(taken, "messages")
