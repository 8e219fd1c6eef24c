# cause:   four threads queue for one lock that is always held during slow work; the holder changes all the time
# expect:  verdict=timed|running pattern=-
import threading
import time

lock = threading.Lock()


def deposit():
    for _ in range(400):
        lock.acquire()
        try:
            time.sleep(0.07)
        finally:
            lock.release()


threads = [threading.Thread(target=deposit) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
