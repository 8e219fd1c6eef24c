# cause:   the consumer polls with a timeout; its producer lives and prepares the first item for a long time
# expect:  verdict=timed|running pattern=-
import multiprocessing
import queue
import time


def produce(items):
    time.sleep(70)
    items.put("late")


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    items = context.Queue()
    context.Process(target=produce, args=(items,), daemon=True).start()
    while True:
        try:
            print(items.get(timeout=0.4))
            break
        except queue.Empty:
            print(".", end="", flush=True)
