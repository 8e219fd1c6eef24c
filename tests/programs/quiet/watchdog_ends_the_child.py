# cause:   the child's output pipe is full and nobody reads it, but a watchdog thread will end the child after a minute
# verdict: timed
# expect:  verdict=timed pattern=-
import subprocess
import sys
import threading
import time


def watch(child):
    begun = time.monotonic()
    while True:
        time.sleep(0.25)
        if time.monotonic() - begun > 60:
            child.kill()


child = subprocess.Popen([sys.executable, "-c", "print('x' * 200_000)"], stdout=subprocess.PIPE)
threading.Thread(target=watch, args=(child,), daemon=True).start()
child.wait()
