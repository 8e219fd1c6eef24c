# cause:   a method that holds a shared, non-reentrant lock calls another one that takes it again
# verdict: orphaned (the thread waits for itself)
# chain:   worker -lock-> the worker itself ; parent main -child-exit-> worker
# fix:     multiprocessing.RLock, or an inner method that expects the lock to be held
# expect:  verdict=orphaned|deadlock pattern=self-relock chain=child-exit>lock/semaphore
import multiprocessing


class Ledger:
    def __init__(self, context):
        self.guard = context.Lock()
        self.rows = []

    def append(self, row):
        self.guard.acquire()  # link 2
        try:
            self.rows.append(row)
        finally:
            self.guard.release()

    def extend(self, rows):
        with self.guard:
            for row in rows:
                self.append(row)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    clerk = context.Process(target=Ledger(context).extend, args=(["a", "b"],), name="clerk")
    clerk.start()
    clerk.join()  # link 1
