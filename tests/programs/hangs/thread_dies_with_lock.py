# cause:   a thread dies of an exception between acquire() and release(); main waits for the lock
# verdict: orphaned wait (the holder thread has ended)
# chain:   main -futex(private)-> thread (ended)
# fix:     `with lock:`
# expect:  verdict=orphaned pattern=dead-lock-holder chain=lock
import threading, time

lock = threading.Lock()
threading.excepthook = lambda a: None

def update(cfg):
    lock.acquire()
    cfg["n"] = int(cfg["n"]) + 1  # ValueError
    lock.release()

t = threading.Thread(target=update, args=({"n": "x"},)); t.start(); t.join()
with lock:
    print("never")
