# cause:   a with-block of a thread pool ends: it waits for a task that takes jobs from a queue until a None that comes after the block
# verdict: deadlock (main waits for the thread, the thread for main)
# chain:   main -thread-join-> executor thread ; executor thread -condition (not empty)-> main
# fix:     put the None inside of the block
# expect:  verdict=deadlock|orphaned pattern=missing-sentinel|- chain=thread-join>condition/lock
import queue
from concurrent.futures import ThreadPoolExecutor

jobs = queue.SimpleQueue()


def work():
    while True:
        job = jobs.get()  # link 2
        if job is None:
            return
        print(job, flush=True)


with ThreadPoolExecutor(1) as executor:
    executor.submit(work)
    jobs.put("a job")
jobs.put(None)
