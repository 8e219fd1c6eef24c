# cause:   the parent waits for a child whose output pipe is full; a heartbeat thread of the parent lives on
# verdict: deadlock (the heartbeat only sleeps and prints: it never reads the pipe)
# chain:   main -child-exit-> the child ; the child -pipe-full-> main
# fix:     communicate() instead of wait()
# expect:  verdict=deadlock pattern=popen-pipe-full chain=child-exit>pipe-full mode=pid
import subprocess
import sys
import threading
import time


def beat():
    while True:
        time.sleep(0.25)
        print("still here", time.strftime("%H:%M:%S"), file=sys.stderr)


threading.Thread(target=beat, name="heartbeat", daemon=True).start()
child = subprocess.Popen([sys.executable, "-c", "print('x' * 200_000)"], stdout=subprocess.PIPE)
child.wait()  # link 1
