# cause:   a spawned logger gets the read end of a pipe over a Unix socket and reads to the end of file; the sender passed the write end along by mistake
# verdict: orphaned (the logger's own write end keeps its input open)
# chain:   main -child-exit-> logger ; logger -pipe-empty-> its own write end, received over the socket
# fix:     pass the read end alone, or close the other in the receiver
# expect:  verdict=orphaned|deadlock pattern=own-write-end|inherited-write-end chain=child-exit>pipe-empty
import array
import os
import socket
import subprocess
import sys

RECEIVER = """
import array, os, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
_, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(8))
inlet, spare = array.array("i", ancillary[0][2])
while os.read(inlet, 4096):
    pass
"""

ours, theirs = socket.socketpair()
logger = subprocess.Popen([sys.executable, "-c", RECEIVER, str(theirs.fileno())], pass_fds=[theirs.fileno()])
theirs.close()
reader, writer = os.pipe()
ends = array.array("i", [reader, writer])
ours.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ends)])
ours.close()
os.close(reader)
os.write(writer, b"a line for the log\n")
os.close(writer)
logger.wait()  # link 1
