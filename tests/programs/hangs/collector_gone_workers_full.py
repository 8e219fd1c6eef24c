# cause:   the collector of a bounded queue returns after it has seen enough; the workers wait for room, main for the workers
# verdict: orphaned (the collector has ended; main holds the queue but only joins)
# chain:   main -child-exit-> a worker ; worker -semaphore (slots)-> the collector, which has ended
# fix:     collect until every worker has said that it is done
# expect:  verdict=orphaned|deadlock pattern=bounded-queue-no-consumer|join-before-drain chain=child-exit>semaphore/lock
import multiprocessing


def collect(rows):
    while rows.get() < 50:
        pass


def work(rows, first):
    for row in range(first, 200, 2):
        rows.put(row)  # link 2


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    rows = context.Queue(maxsize=5)
    collector = context.Process(target=collect, args=(rows,), name="collector")
    collector.start()
    workers = [context.Process(target=work, args=(rows, first), name=f"worker-{first}") for first in range(2)]
    for worker in workers:
        worker.start()
    collector.join()
    for worker in workers:
        worker.join()  # link 1
