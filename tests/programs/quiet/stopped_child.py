# cause:   a child has stopped itself for a debugger; its parent waits for it
# expect:  verdict=external pattern=-
import os
import signal
import subprocess
import sys

code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print('attached')"
subprocess.run([sys.executable, "-c", code], check=True)
