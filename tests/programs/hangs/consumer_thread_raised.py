# cause:   the only thread that takes from a bounded queue.Queue died of an exception; the producer waits for room
# verdict: orphaned (no thread is left that would take)
# chain:   main -condition (not full)-> nobody
# fix:     catch in the consumer and go on, or put(timeout=...) and look whether it lives
# expect:  verdict=orphaned|deadlock pattern=bounded-queue-no-consumer chain=lock/condition
import queue
import threading

threading.excepthook = lambda arguments: None
samples = queue.Queue(maxsize=8)


def average():
    while True:
        sample = samples.get()
        print(1.0 / sample)


threading.Thread(target=average, daemon=True, name="averager").start()
for sample in range(5, -30, -1):
    samples.put(sample)  # link 1
