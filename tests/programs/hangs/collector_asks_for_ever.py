# cause:   one of two workers was killed with a job in hand; the collector asks for its result again and again
# verdict: livelock (the other worker waits for jobs from the collector, which sends none any more)
# chain:   main -pipe-empty-> the living worker ; the living worker -pipe-empty-> main
# fix:     look at is_alive() after each timeout
# expect:  verdict=livelock pattern=producer-gone|pool-worker-lost mode=pid
import multiprocessing as mp
import os
import queue
import signal

fork = mp.get_context("fork")


def work(jobs, results):
    for job in iter(jobs.get, None):
        if job == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        results.put(job * job)


if __name__ == "__main__":
    results = fork.Queue()
    lanes = [fork.Queue() for _ in range(2)]
    for lane in lanes:
        fork.Process(target=work, args=(lane, results), daemon=True).start()
    for job in range(4):
        lanes[job % 2].put(job)
    found = []
    while len(found) < 4:
        try:
            found.append(results.get(timeout=0.25))  # link 1
        except queue.Empty:
            pass
