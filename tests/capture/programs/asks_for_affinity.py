"""Prints the affinity that it finds: at the start, after many calls, in children and threads, after it was set."""

import multiprocessing
import os
import threading


def show(when):
    """Print one line, whole and at once: several processes write to one place."""
    os.write(1, f"affinity {when} {sorted(os.sched_getaffinity(0))}\n".encode())


def exchange():
    """Make so many calls that the tracer moves whoever makes them."""
    one, other = os.pipe()
    for _ in range(4_000):
        os.write(other, b"x")
        os.read(one, 1)


def child(when):
    """Look before and after."""
    show(f"{when}, before calls")
    exchange()
    show(f"{when}, after calls")


def run(kind, *arguments):
    """Run it to its end."""
    target = kind(target=child, args=arguments)
    target.start()
    target.join()


if __name__ == "__main__":
    show("at the start")
    exchange()
    show("after calls")
    fork = multiprocessing.get_context("fork")
    run(fork.Process, "in a child")
    run(threading.Thread, "in a thread")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    exchange()
    show("after it was set")
    run(fork.Process, "in a child after it was set")
