"""A producer and a consumer over one multiprocessing.Queue: prints the sum, 19900 + 3000 * 5."""

import multiprocessing


def produce(queue):
    for number in range(200):
        queue.put(number)
    for _ in range(5):
        queue.put(b"x" * 3000)  # less than PIPE_BUF: never read in parts
    queue.put(None)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.Queue(10)
    producer = context.Process(target=produce, args=(queue,))
    producer.start()
    total = 0
    for item in iter(queue.get, None):
        total += item if isinstance(item, int) else len(item)
    producer.join()
    print(total, producer.exitcode)
