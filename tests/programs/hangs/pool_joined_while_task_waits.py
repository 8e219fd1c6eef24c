# cause:   a pool task waits for a Manager-less Event that is set after pool.join(): close() + join() never returns
# verdict: deadlock (main joins the pool, the task waits for main's set())
# chain:   main -futex(join of the worker handler)-> ... worker -futex(psem Event)-> set() by main
# fix:     set the event before join()
# expect:  verdict=deadlock pattern=-|missing-participant chain=thread-join>poll/sleep>condition
import multiprocessing as mp

def init(e):
    global stop
    stop = e

def tail(n):
    stop.wait()
    return n

if __name__ == "__main__":
    stop = mp.Event()
    pool = mp.Pool(2, init, (stop,))
    r = pool.map_async(tail, range(2))
    pool.close()
    pool.join()
    stop.set()
