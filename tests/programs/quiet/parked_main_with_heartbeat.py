# cause:   the main thread is parked on an event that nobody sets; the work is done by a thread that sleeps and prints
# verdict: timed
# expect:  verdict=timed pattern=-
import threading
import time


def tick():
    while True:
        print("tick", flush=True)
        time.sleep(0.3)


threading.Thread(target=tick, daemon=True).start()
threading.Event().wait()
