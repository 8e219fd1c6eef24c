# cause:   a pool whose workers are replaced after every task, and which gets on with its work
# expect:  verdict=timed|running pattern=-
import multiprocessing
import time


def task(number):
    time.sleep(0.15)
    return number


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for number in pool.imap(task, range(600), chunksize=1):
            print(number, flush=True)
