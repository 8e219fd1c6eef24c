# cause:   one of three workers is killed while it waits in get(), with the queue's read lock: the others never get an item
# verdict: orphaned (the holder of the read lock is dead)
# chain:   main -child-exit-> (the fork server, which reports the end of) a worker ; worker -lock (read lock of the queue)-> the killed one
# fix:     end workers by a None; one connection each where they may be killed
# expect:  verdict=orphaned|deadlock pattern=dead-lock-holder chain=child-exit>child-exit?>lock/semaphore
import multiprocessing
import time


def serve(orders):
    for _ in iter(orders.get, "stop"):  # link -1
        pass


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    orders = context.Queue()
    first = context.Process(target=serve, args=(orders,))
    first.start()
    orders.put("warm up")
    time.sleep(0.6)
    others = [context.Process(target=serve, args=(orders,)) for _ in range(2)]
    for other in others:
        other.start()
    time.sleep(0.5)
    first.kill()
    first.join()
    for other in others:
        orders.put("stop")
    for other in others:
        other.join()  # link 1
