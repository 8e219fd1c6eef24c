"""Reads before it joins: the right order of the article's first program.

Expected verdict: finished.
"""
from multiprocessing import Process, Queue


def child(queue):
    queue.put(bytearray(65536))


if __name__ == "__main__":
    queue = Queue()
    p = Process(target=child, args=(queue,))
    p.start()
    print(len(queue.get()))
    p.join()
