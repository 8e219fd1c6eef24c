# cause:   a collector asks again and again, and gives up by the clock; the worker waits for a job meanwhile
# verdict: timed
# expect:  verdict=timed pattern=-
import multiprocessing as mp
import queue
import time

fork = mp.get_context("fork")


def work(jobs, results):
    for job in iter(jobs.get, None):
        results.put(job)


if __name__ == "__main__":
    jobs, results = fork.Queue(), fork.Queue()
    fork.Process(target=work, args=(jobs, results), daemon=True).start()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            print(results.get(timeout=0.25))
        except queue.Empty:
            pass
