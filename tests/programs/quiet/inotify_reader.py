# cause:   a watcher waits for changes in a folder
# expect:  verdict=external pattern=-
import ctypes
import os

IN_CREATE = 0x100
libc = ctypes.CDLL(None, use_errno=True)
watcher = libc.inotify_init1(os.O_CLOEXEC)
libc.inotify_add_watch(watcher, os.getcwd().encode(), IN_CREATE)
while True:
    print(os.read(watcher, 4096))
