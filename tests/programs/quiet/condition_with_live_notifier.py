# cause:   consumers wait on a shared condition; the notifier fetches the next batch and is slow
# expect:  verdict=timed pattern=-
import multiprocessing
import time


def consume(batch, changed):
    with changed:
        changed.wait_for(lambda: batch.value > 0)


def fetch(batch, changed):
    time.sleep(65)
    with changed:
        batch.value = 1
        changed.notify_all()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    batch, changed = context.Value("i", 0), context.Condition()
    roles = (consume, consume, fetch)
    processes = [context.Process(target=role, args=(batch, changed)) for role in roles]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
