# cause:   a program reads a named pipe whose writer is a daemon that is none of its children and is slow
# expect:  verdict=external|timed pattern=-
import os
import tempfile
import time

with tempfile.TemporaryDirectory(dir=".") as folder:
    name = os.path.join(folder, "events")
    os.mkfifo(name)
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            with open(name, "w") as outlet:
                time.sleep(60)
                outlet.write("an event\n")
        os._exit(0)
    os.waitpid(middle, 0)
    with open(name) as events:
        print(events.readline())
