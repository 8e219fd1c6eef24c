"""Makes a pipe larger, so that 65,537 bytes fit into it.

Expected verdict: finished. The report's fill chart shows the new capacity: the kernel rounds 65,537
up to 131,072 bytes, the next power of two.
"""
import fcntl
import os

F_SETPIPE_SZ = 1031  # from linux/fcntl.h; the module fcntl has it from Python 3.10 on

read_fd, write_fd = os.pipe()
capacity = fcntl.fcntl(write_fd, F_SETPIPE_SZ, 65537)
written = os.write(write_fd, b"\x00" * 65537)
print(written, "bytes fit into", capacity)
