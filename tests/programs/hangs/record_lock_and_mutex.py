# cause:   one process takes a file lock (fcntl) and then a mutex, the other the mutex and then the file lock
# verdict: deadlock (cycle of two over two kinds of lock; the kernel's own check sees only one of them)
# chain:   main -child-exit-> backup ; backup -lock-> writer ; writer -file-lock-> backup
# fix:     one order for both
# expect:  verdict=deadlock pattern=lock-order chain=child-exit>lock/semaphore>file-lock
import fcntl
import multiprocessing
import tempfile
import time


def backup(database, mutex):
    fcntl.lockf(database, fcntl.LOCK_EX)
    time.sleep(0.4)
    with mutex:  # link 2
        fcntl.lockf(database, fcntl.LOCK_UN)


def writer(database, mutex):
    with mutex:
        time.sleep(0.4)
        fcntl.lockf(database, fcntl.LOCK_EX, 16, 0)  # link 3


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    mutex = context.Lock()
    with tempfile.TemporaryFile() as database:
        database.write(bytes(64))
        database.flush()
        jobs = [context.Process(target=job, args=(database, mutex), name=job.__name__) for job in (backup, writer)]
        for job in jobs:
            job.start()
        jobs[0].join()  # link 1
