"""Reads a message cut short by its writer's exit, on qtrace's own queue: cancel_join_thread.py once more.

Expected verdict: orphaned, pattern torn-message.
    The child exits in the middle of its message (cancel_join_thread), and main waits for the rest,
    which nobody will ever send. There is no end of file either: main holds a write end itself.
With the argument "robust" the expected verdict is finished: get() raises TruncatedMessage, which says
who wrote how much of it, and the queue goes on with the next message.
With a number of bytes as argument, the message is that long: up to 65,000 it fits into the pipe,
and the program finishes.
"""
import sys
import time
from multiprocessing import Process

from qtrace.queue import Queue, TruncatedMessage


def child(queue, size):
    queue.cancel_join_thread()
    queue.put(bytearray(size))
    time.sleep(0.5)  # the feeder thread has filled the pipe by then


if __name__ == "__main__":
    arguments = sys.argv[1:]
    robust = "robust" in arguments
    size = next((int(argument) for argument in arguments if argument.isdigit()), 65536)
    queue = Queue(robust=robust)
    p = Process(target=child, args=(queue, size))
    p.start()
    p.join()
    print("after join, queue size", queue.qsize())
    try:
        queue.get()
    except TruncatedMessage as error:
        print("TruncatedMessage:", error)
        queue.put("the next one")
        print("then", queue.get())
    print("exit")
