# cause:   connection.wait() on the sentinels of two children of the fork server that live and sleep
# expect:  verdict=timed pattern=-
import multiprocessing
import time
from multiprocessing.connection import wait

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    children = [context.Process(target=time.sleep, args=(seconds,)) for seconds in (60, 70)]
    for child in children:
        child.start()
    wait([child.sentinel for child in children])
