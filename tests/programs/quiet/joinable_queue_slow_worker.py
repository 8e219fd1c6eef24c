# cause:   JoinableQueue.join() while a worker is busy with its item for a minute
# expect:  verdict=timed pattern=-
import multiprocessing
import time


def work(items):
    while True:
        time.sleep(items.get())
        items.task_done()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    items = context.JoinableQueue()
    for _ in range(2):
        context.Process(target=work, args=(items,), daemon=True).start()
    for seconds in (0.1, 60, 0.1):
        items.put(seconds)
    items.join()
