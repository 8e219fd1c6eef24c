"""A process and its child talk, and use descriptors and futex words in every way that is looked up."""

import ctypes
import mmap
import os
import socket
import sys

MESSAGES = int(sys.argv[1])
HIGH = 1500
WAKE, WAIT, PRIVATE = 1, 0, 128
FUTEX = {"x86_64": 202, "aarch64": 98}[os.uname().machine]
libc = ctypes.CDLL(None)


def futex(address, operation, timeout=None):
    limit = ctypes.byref((ctypes.c_long * 2)(*timeout)) if timeout else None
    libc.syscall(FUTEX, ctypes.c_void_p(address), operation, 0, limit, None, 0)


to_child, to_parent = os.pipe(), os.pipe()
left, right = socket.socketpair()
child = os.fork()
if child == 0:
    for _ in range(MESSAGES):
        os.write(to_parent[1], os.read(to_child[0], 100))
    right.send(right.recv(100))
    os.write(right.fileno(), os.read(right.fileno(), 100))
    os._exit(0)
for number in range(MESSAGES):
    # Also shorter than a head, and empty.
    os.write(to_child[1], b"%d" % number * (1 + number % 3))
    os.read(to_parent[0], 100)
left.send(b"by send")
left.recv(100)
os.write(left.fileno(), b"by write")
os.read(left.fileno(), 100)
os.waitpid(child, 0)

# The number of a pipe, given to a file, and to a pipe again.
os.write(to_parent[1], b"left in the pipe")
os.read(to_parent[0], 4)
with open(__file__, "rb") as file:
    os.dup2(file.fileno(), to_parent[0])
    os.read(to_parent[0], 4)
    os.close(to_parent[0])
    again = os.pipe()
    os.write(again[1], b"another pipe")
    os.read(again[0], 5)
    # A number that is too high for the table, a wrong one, and an address that is none.
    os.dup2(again[0], HIGH)
    for _ in range(3):
        os.read(HIGH, 1)
    for fd, address in ((HIGH + 1, 0), (again[1], 8), (again[1], 0)):
        libc.write(fd, ctypes.c_void_p(address), 4)
    libc.write(again[1], b"", 0)
    os.close(again[0])
    os.closerange(again[1], again[1] + 1)
    libc.read(again[1], None, 0)

with mmap.mmap(-1, 4096) as shared:
    words = ctypes.addressof(ctypes.c_char.from_buffer(shared))
    for _ in range(2):
        for place in range(0, 4096, 8):
            futex(words + place, WAKE)
            futex(words + place, WAKE | PRIVATE)
    for nanoseconds in range(1_000, 200_000, 10_000):
        futex(words, WAIT, (0, nanoseconds))
        futex(words, WAIT | PRIVATE, (0, nanoseconds))
    futex(words, WAKE, (7, 7))  # where a number stands in a wait's place
    os._exit(0)
