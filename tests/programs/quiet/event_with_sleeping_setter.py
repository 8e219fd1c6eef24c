# cause:   three threads wait for an event that a live thread sets after a long sleep
# expect:  verdict=timed pattern=-
import threading
import time

ready = threading.Event()


def warm_up():
    time.sleep(100)
    ready.set()


threads = [threading.Thread(target=ready.wait) for _ in range(3)] + [threading.Thread(target=warm_up)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
