# cause:   the producer waits for room most of the time: the consumer needs half a second an item
# expect:  verdict=timed|running pattern=-
import multiprocessing
import time


def consume(items):
    for _ in iter(items.get, None):
        time.sleep(0.5)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    items = context.Queue(maxsize=2)
    consumer = context.Process(target=consume, args=(items,))
    consumer.start()
    for number in range(150):
        items.put(number)
    items.put(None)
    consumer.join()
