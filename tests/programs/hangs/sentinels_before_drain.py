# cause:   the parent waits for its spawned workers' sentinels and reads their results afterwards; the results do not fit into the pipe
# verdict: deadlock (cycle)
# chain:   parent main -sentinel-> worker ; worker main -thread-join-> its feeder ; feeder -pipe-full-> get() by parent main
# fix:     drain the queue while the workers run, then wait for the sentinels
# expect:  verdict=deadlock pattern=join-before-drain chain=child-exit/poll>thread-join>lock/semaphore?>pipe-full
import multiprocessing
from multiprocessing.connection import wait


def measure(results, seed):
    results.put([seed * n for n in range(60_000)])


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=measure, args=(results, seed)) for seed in (3, 5)]
    for worker in workers:
        worker.start()
    pending = {worker.sentinel for worker in workers}
    while pending:
        pending -= set(wait(pending))  # link 1
    print([len(results.get()) for _ in workers])
