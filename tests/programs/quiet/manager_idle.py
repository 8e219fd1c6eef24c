# cause:   a manager serves a shared list; its clients are between two calls
# expect:  verdict=timed pattern=-
import multiprocessing
import time


def client(rows):
    while True:
        rows.append(len(rows))
        time.sleep(60)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        rows = manager.list()
        process = context.Process(target=client, args=(rows,))
        process.start()
        process.join()
