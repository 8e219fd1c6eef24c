# cause:   the parent joins a child that works slowly (it sleeps)
# expect:  verdict=timed pattern=-
import multiprocessing
import time

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    child.join()
