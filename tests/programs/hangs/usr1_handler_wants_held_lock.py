# cause:   a signal handler takes the lock that the interrupted code of the same thread holds
# verdict: orphaned (the thread waits for itself)
# chain:   main (in its handler) -lock-> main (the interrupted frame)
# fix:     only set a flag in the handler; or threading.RLock
# expect:  verdict=orphaned|deadlock pattern=signal-handler-reentry|self-relock chain=lock
import os
import signal
import threading

statistics_lock = threading.Lock()
statistics = {"requests": 0}


def on_usr1(number, frame):
    with statistics_lock:  # link 1
        print(statistics)


signal.signal(signal.SIGUSR1, on_usr1)
while True:
    with statistics_lock:
        statistics["requests"] += 1
        if statistics["requests"] == 1_000:
            os.kill(os.getpid(), signal.SIGUSR1)
