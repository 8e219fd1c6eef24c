"""A child that sends itself SIGSTOP while its parent waits for its end."""

import multiprocessing
import os
import signal


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=stop)
    child.start()
    child.join()
