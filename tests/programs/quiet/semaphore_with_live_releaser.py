# cause:   both permits of a semaphore are in use by threads that are slow; a third one waits for its turn
# expect:  verdict=timed pattern=-
import threading
import time

permits = threading.BoundedSemaphore(2)


def query(seconds):
    with permits:
        time.sleep(seconds)


threads = [threading.Thread(target=query, args=(seconds,)) for seconds in (61, 62, 1)]
for thread in threads:
    thread.start()
threads[-1].join()
