"""Reads a message whose writer did not wait until it was sent: the article's second program.

Expected verdict: orphaned, pattern torn-message.
    The child exits in the middle of its message (cancel_join_thread), and main waits for the rest,
    which nobody will ever send. There is no end of file either: main holds a write end itself.
With a number of bytes as argument, the message is that long: up to 65,000 it fits into the pipe,
and the program finishes.
"""
import sys
import time
from multiprocessing import Process, Queue


def child(queue, size):
    queue.cancel_join_thread()
    queue.put(bytearray(size))
    time.sleep(0.5)  # the feeder thread has filled the pipe by then


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 65536
    queue = Queue()
    p = Process(target=child, args=(queue, size))
    p.start()
    p.join()
    print("after join, queue size", queue.qsize())
    queue.get()
    print("exit")
