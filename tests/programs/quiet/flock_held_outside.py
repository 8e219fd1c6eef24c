# cause:   a program waits for a file lock that another instance holds, which is none of its children
# expect:  verdict=external|timed pattern=-
import fcntl
import os
import tempfile
import time

with tempfile.TemporaryFile() as pid_file:
    name = f"/proc/{os.getpid()}/fd/{pid_file.fileno()}"
    inlet, outlet = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.close(inlet)
            instance = open(name)
            fcntl.flock(instance, fcntl.LOCK_EX)
            os.close(outlet)
            time.sleep(60)
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(outlet)
    os.read(inlet, 1)
    with open(name) as again:
        fcntl.flock(again, fcntl.LOCK_EX)
