# cause:   a scheduler that sleeps in Event.wait(timeout) until the next job is due
# expect:  verdict=timed pattern=-
import threading
import time

stop = threading.Event()


def scheduler():
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        due += 40
        print("job", flush=True)


thread = threading.Thread(target=scheduler, name="scheduler")
thread.start()
thread.join()
