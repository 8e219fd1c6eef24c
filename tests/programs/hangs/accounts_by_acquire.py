# cause:   two processes take two locks by acquire() and release(), in opposite orders
# verdict: deadlock
# chain:   main -child-exit-> one of them ; one -lock-> the other -lock-> the one
# fix:     one order for all
# expect:  verdict=deadlock pattern=lock-order chain=child-exit>lock>lock
import multiprocessing as mp

fork = mp.get_context("fork")


def transfer(first, second, met):
    first.acquire()
    try:
        met.wait()
        second.acquire()  # link 2 3
        second.release()
    finally:
        first.release()


if __name__ == "__main__":
    savings, giro = fork.Lock(), fork.Lock()
    met = fork.Barrier(2)
    pair = [fork.Process(target=transfer, args=(*locks, met)) for locks in ((savings, giro), (giro, savings))]
    for process in pair:
        process.start()
    for process in pair:
        process.join()  # link 1
