"""Waits for a signal, which only the outside can send: `waits_for_ever.py FOLDER [MANNER]`.

A child waits with it. Makes FOLDER/ready when both are about to wait. MANNER: `stubborn` ignores
SIGINT and SIGTERM, `polite` ends with status 5 on Ctrl-C.
"""

import os
import signal
import sys
import time

folder, manner = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
if manner == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGINT, signal.SIG_IGN if manner == "stubborn" else signal.SIG_DFL)
    while True:
        time.sleep(3600)
try:
    open(os.path.join(folder, "ready"), "w").close()
    signal.pause()
except KeyboardInterrupt:
    if manner != "polite":
        raise
    print("interrupted in order", flush=True)
    os.kill(child, signal.SIGKILL)
    os.wait()
    sys.exit(5)
