# cause:   two processes wait at a barrier for a third, which sleeps before it comes
# expect:  verdict=timed pattern=-
import multiprocessing
import time


def arrive(barrier, delay):
    time.sleep(delay)
    barrier.wait()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=arrive, args=(barrier, delay)) for delay in (0, 0.1, 70)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
