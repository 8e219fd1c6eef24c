# cause:   four threads compute and take turns with the interpreter lock
# expect:  verdict=running pattern=- load=yes
import os
import threading
import time

os.nice(19)


def compute():
    end = time.monotonic() + 40
    while time.monotonic() < end:
        sum(range(300))


threads = [threading.Thread(target=compute) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
