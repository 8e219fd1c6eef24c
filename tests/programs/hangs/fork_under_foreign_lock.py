# cause:   os.fork() while another thread holds a lock: the child has the locked lock and nobody who could release it
# verdict: orphaned (the holder does not exist in the child)
# chain:   main -child-exit-> child ; child -lock-> a thread that only the parent has
# fix:     start a fresh interpreter (spawn), or fork before the first thread
# expect:  verdict=orphaned pattern=fork-held-lock chain=child-exit>lock
import os
import threading
import time

cache_lock = threading.Lock()
filling = threading.Event()


def fill_cache():
    with cache_lock:
        filling.set()
        time.sleep(1.0)


threading.Thread(target=fill_cache, name="filler").start()
filling.wait()
child = os.fork()
if child == 0:
    cache_lock.acquire()  # link 2
    os._exit(0)
os.waitpid(child, 0)  # link 1
