"""Futex calls whose results do not depend on timing: prints what each returned."""

import ctypes
import errno
import mmap

FUTEX = 202
WAIT, WAKE, WAIT_PRIVATE, WAKE_PRIVATE = 0, 1, 128, 129

libc = ctypes.CDLL(None, use_errno=True)
word = ctypes.c_uint32.from_buffer(mmap.mmap(-1, 4096))
short = (ctypes.c_long * 2)(0, 2_000_000)


def futex(operation, value, timeout=None):
    ret = libc.syscall(FUTEX, ctypes.byref(word), operation, value, timeout, None, 0)
    return errno.errorcode[ctypes.get_errno()] if ret == -1 else ret


word.value = 7
print(futex(WAIT, 8), futex(WAIT, 7, short), futex(WAKE, 1))
print(futex(WAIT_PRIVATE, 8), futex(WAIT_PRIVATE, 7, short), futex(WAKE_PRIVATE, 5))
