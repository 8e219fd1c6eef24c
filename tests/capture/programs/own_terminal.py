"""Runs a child on a pseudo terminal and types Ctrl-C there: prints by which signal the child has ended."""

import os
import pty
import signal
import time

pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.write(1, b"ready")
    while True:
        time.sleep(3600)
os.read(terminal, 5)
os.write(terminal, b"\x03")
_, status = os.waitpid(pid, 0)
print("ended by", os.WTERMSIG(status))
