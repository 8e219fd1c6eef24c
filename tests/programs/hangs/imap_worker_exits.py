# cause:   a task ends its pool's worker by os._exit(): a new worker is made, the task is lost, and imap() waits for its result
# verdict: orphaned (nobody has the task any more)
# chain:   main -condition (next result)-> the pool's result handler -pipe-empty-> idle workers
# fix:     raise in the task instead, or concurrent.futures.ProcessPoolExecutor, which notices
# expect:  verdict=orphaned|deadlock pattern=pool-worker-lost
import multiprocessing
import os


def convert(page):
    if page == 3:
        os._exit(2)
    return page * page


if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(3)
    for square in pool.imap_unordered(convert, range(8)):  # link 1
        print(square, flush=True)
