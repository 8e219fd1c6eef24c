# cause:   tasks in a ProcessPoolExecutor report progress on a bounded Manager().Queue; main reads it only after the results
# verdict: deadlock (main waits for the futures, the tasks wait for main to get())
# chain:   main -futex(Future)-> manager thread -poll-> worker -read(socket of the server EMPTY)-> server thread -futex(Queue.not_full)-> get() by main
# fix:     read progress in a thread
# expect:  verdict=deadlock pattern=bounded-queue-no-consumer
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

def task(q, n):
    for i in range(10): q.put((n, i))
    return n

if __name__ == "__main__":
    with mp.Manager() as m, ProcessPoolExecutor(2) as ex:
        q = m.Queue(maxsize=4)
        fs = [ex.submit(task, q, n) for n in range(2)]
        print([f.result() for f in fs])
        while not q.empty(): print(q.get())
