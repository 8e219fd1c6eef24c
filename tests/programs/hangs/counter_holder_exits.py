# cause:   a worker leaves by os._exit() inside the lock of a shared counter: the semaphore stays taken
# verdict: orphaned (the holder is dead)
# chain:   main -lock-> the worker that died with it
# fix:     leave the block before the process ends; never os._exit() inside it
# expect:  verdict=orphaned|deadlock pattern=dead-lock-holder chain=lock/semaphore
import multiprocessing
import os


def count(total, limit):
    for _ in range(limit):
        with total.get_lock():
            total.value += 1
            if total.value == limit // 2:
                os._exit(17)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    total = context.Value("l", 0)
    worker = context.Process(target=count, args=(total, 40))
    worker.start()
    worker.join()
    print("the worker has ended with", worker.exitcode, flush=True)
    with total.get_lock():  # link 1
        print(total.value)
