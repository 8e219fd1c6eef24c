# cause:   main calls acquire(), an exception skips release(); the handler then joins a worker that needs the lock
# verdict: deadlock (main waits for the worker, the worker for main's lock)
# chain:   main -wait4-> worker -futex(psem)-> main (holder)
# fix:     `with lock:`
# expect:  verdict=deadlock pattern=- chain=child-exit>lock
import multiprocessing as mp, time

def worker(lock):
    time.sleep(0.3)
    with lock: pass

if __name__ == "__main__":
    lock = mp.Lock()
    p = mp.Process(target=worker, args=(lock,)); p.start()
    try:
        lock.acquire()
        [][0]                     # IndexError
        lock.release()
    except IndexError:
        p.join()
