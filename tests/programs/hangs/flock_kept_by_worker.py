# cause:   a worker inherited the open file that carries a flock(); the parent closes its copy, which does not unlock, and locks the file anew
# verdict: deadlock (the parent waits for the worker's copy of the lock, the worker for the parent's next job)
# chain:   main -file-lock-> worker (it has the locked open file) ; worker -pipe-empty-> main
# fix:     LOCK_UN before the close, or do not let the worker inherit the file
# expect:  verdict=deadlock pattern=- chain=file-lock>pipe-empty
import fcntl
import os
import tempfile

state = tempfile.TemporaryFile()
name = f"/proc/{os.getpid()}/fd/{state.fileno()}"
locked = open(name, "rb")
fcntl.flock(locked, fcntl.LOCK_EX)
jobs, outlet = os.pipe()
if os.fork() == 0:
    os.close(outlet)
    state.close()
    while os.read(jobs, 100):  # link 2
        pass
    os._exit(0)
os.close(jobs)
locked.close()
again = open(name, "rb")
fcntl.flock(again, fcntl.LOCK_EX)  # link 1
os.write(outlet, b"job")
