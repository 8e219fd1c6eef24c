# cause:   an event loop watches a timer descriptor that fires every 50 seconds
# expect:  verdict=timed|external pattern=-
import ctypes
import os
import select
import struct

libc = ctypes.CDLL(None, use_errno=True)
CLOCK_MONOTONIC = 1
timer = libc.timerfd_create(CLOCK_MONOTONIC, 0)
libc.timerfd_settime(timer, 0, struct.pack("qqqq", 50, 0, 50, 0), None)
watch = select.epoll()
watch.register(timer, select.EPOLLIN)
while True:
    watch.poll()
    print(os.read(timer, 8))
