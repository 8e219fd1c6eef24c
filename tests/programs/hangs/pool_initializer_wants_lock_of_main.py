# cause:   main holds a lock while it waits for pool.map; the pool's initializer takes the same lock
# verdict: deadlock (main waits for workers, workers wait for main's lock)
# chain:   main -futex(MapResult)-> result handler -read-> worker -futex(psem)-> main
# fix:     release the lock before map()
# expect:  verdict=deadlock pattern=- chain=condition>pipe-empty>lock
import multiprocessing as mp

def init(lock):
    with lock: print("worker ready", flush=True)

def task(n): return n

if __name__ == "__main__":
    lock = mp.Lock()
    with lock:
        with mp.Pool(2, init, (lock,)) as pool:
            print(pool.map(task, range(3)))
