# cause:   flock() on a second open() of the lock file, while the first one is still locked
# verdict: orphaned wait (the process holds the file lock itself)
# chain:   main -file-lock-> itself
# fix:     open the lock file once, or give the lock back before taking it again
# expect:  verdict=orphaned|deadlock pattern=self-relock chain=file-lock
import fcntl
import tempfile

path = tempfile.NamedTemporaryFile(suffix=".lock", delete=False).name


def refresh():
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # link 1


with open(path, "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    refresh()
