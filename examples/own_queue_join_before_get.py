"""Joins a child before reading what it sent, on qtrace's own queue: join_before_get.py once more.

Expected verdict: deadlock, proven, pattern join-before-drain.
    main waits for the child to exit; the child's main thread waits for its feeder thread; the feeder
    waits for room in the queue's pipe, which only a get() in the first process would make.
    The same on a queue made with the argument "robust": its feeder waits in poll instead of write.
With a number of bytes as argument, the message is that long: up to 65,000 it fits into the pipe,
and the program finishes. `queue.join_processes([p])` in the place of `p.join()` cannot hang.
"""
import sys
from multiprocessing import Process

from qtrace.queue import Queue


def child(queue, size):
    queue.put(bytearray(size))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    robust = "robust" in arguments
    size = next((int(argument) for argument in arguments if argument.isdigit()), 65536)
    queue = Queue(robust=robust)
    p = Process(target=child, args=(queue, size))
    p.start()
    p.join()  # before get(): the child cannot end while its message does not fit into the pipe
    print(len(queue.get()))
