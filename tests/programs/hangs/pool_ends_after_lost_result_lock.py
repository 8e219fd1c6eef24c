# cause:   a worker of a pool is killed while it holds the lock of the results; the pool's end needs that lock
# verdict: orphaned (the holder of a lock is dead)
# chain:   main -lock (tasks)-> the new worker -pipe-empty-> the pool's task handler -lock (results)-> the dead worker
# fix:     never kill a worker; concurrent.futures.ProcessPoolExecutor notices it
# expect:   verdict=orphaned|deadlock pattern=dead-lock-holder chain=lock>pipe-empty>lock|lock
import multiprocessing
import os
import signal
import sys
import time


def die_with_the_lock(_number):
    frame = sys._getframe()
    while "outqueue" not in frame.f_locals:
        frame = frame.f_back
    frame.f_locals["outqueue"]._wlock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply_async(die_with_the_lock, (1,))
        time.sleep(0.7)
    print("ended")  # never reached
