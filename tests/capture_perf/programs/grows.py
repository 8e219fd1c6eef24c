"""At its input's end: a thread, children that exit with 3, become `true`, and are killed by SIGTERM; exits with 7.

Prints ``ready`` before, and then the ids of the three children.
"""

import os
import signal
import subprocess
import sys
import threading
import time

print("ready", flush=True)
sys.stdin.read()
thread = threading.Thread(target=time.sleep, args=(0.2,))
thread.start()
first = os.fork()
if first == 0:
    time.sleep(0.1)
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 3
second = subprocess.Popen(["true"])
assert second.wait() == 0
third = os.fork()
if third == 0:
    signal.pause()
time.sleep(0.1)
os.kill(third, signal.SIGTERM)
assert os.WTERMSIG(os.waitpid(third, 0)[1]) == signal.SIGTERM
thread.join()
print(first, second.pid, third, flush=True)
os._exit(7)
