"""Joins a child before reading what it sent: the first program of the article on Queue.

Expected verdict: deadlock, proven, pattern join-before-drain.
    main waits for the child to exit; the child's main thread waits for its feeder thread; the feeder
    waits for room in the queue's pipe, which only a get() in the first process would make.
With a number of bytes as argument, the message is that long: up to 65,000 it fits into the pipe,
and the program finishes.
"""
import sys
from multiprocessing import Process, Queue


def child(queue, size):
    queue.put(bytearray(size))


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 65536
    queue = Queue()
    p = Process(target=child, args=(queue, size))
    p.start()
    p.join()  # before get(): the child cannot end while its message does not fit into the pipe
    print(len(queue.get()))
