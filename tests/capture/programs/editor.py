"""Like an editor on a terminal: repeats lines, says when it is stopped (Ctrl-Z) and back, and asked (Ctrl-\\)."""

import os
import signal
import sys


def leave(number, frame):
    os.write(1, b"leaving\n")
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, leave)
    os.write(1, b"back\n")


if "handles" in sys.argv:
    signal.signal(signal.SIGTSTP, leave)
if "ignores" in sys.argv:
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
if "quits" not in sys.argv:
    signal.signal(signal.SIGQUIT, lambda *_: os.write(1, b"asked\n"))
os.write(1, b"ready\n")
for line in sys.stdin:
    os.write(1, b"got " + line.encode())
os.write(1, b"done\n")
sys.exit(7)
