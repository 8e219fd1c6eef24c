# cause:   a consumer takes from a queue.Queue whose only producer thread ended without the final mark
# verdict: orphaned (main waits for the consumer, and nobody puts)
# chain:   main -thread-join-> consumer ; consumer -condition (not empty)-> the producer, which has ended
# fix:     put the final mark in a finally block
# expect:  verdict=orphaned|deadlock pattern=producer-gone|missing-sentinel chain=thread-join>condition/lock
import queue
import threading

threading.excepthook = lambda arguments: None
readings = queue.Queue()


def produce():
    for volts in (3, 2, 1, 0):
        readings.put(12 / volts)
    readings.put(None)


def consume():
    for reading in iter(readings.get, None):  # link 2
        print(f"{reading:.1f}", flush=True)


producer = threading.Thread(target=produce, name="producer")
consumer = threading.Thread(target=consume, name="consumer")
producer.start()
consumer.start()
producer.join()
consumer.join()  # link 1
