"""ptrace, as thin as it can be: the only file that imports python-ptrace.

python-ptrace brings the classic requests and the C library; what it lacks (SEIZE and its kin,
GET_SYSCALL_INFO, an event message of the kernel's eight bytes) is added here from linux/ptrace.h.
Its own wrapper of ptrace(2) costs 10 to 15 % of a tracer's loop, so the call is made directly. A
tracee can die at any moment, even while it is stopped: ESRCH is an expected answer, and comes back
as `GONE`, never as an exception.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Final

from qtrace.model.i386 import AUDIT_ARCH_I386


@contextlib.contextmanager
def _loaded_already() -> Iterator[None]:
    """Have python-ptrace take the C library that this process has: looking for its file runs ldconfig.

    The module that looks is not even loaded: it brings subprocess and tempfile, 5 ms of the start.
    """
    name = "ctypes.util"
    known = sys.modules.get(name)
    finder = types.ModuleType(name)
    finder.find_library = lambda name: None  # type: ignore[attr-defined]
    sys.modules[name] = finder
    try:
        yield
    finally:
        if known is not None:
            sys.modules[name] = known
        else:
            del sys.modules[name]


with warnings.catch_warnings(), _loaded_already():
    # Its package reads its version through a deprecated way on Python 3.12 and later.
    warnings.simplefilter("ignore", DeprecationWarning)
    from ptrace.binding import func as _classic
    from ptrace.ctypes_libc import libc as _libc

GONE: Final = -errno.ESRCH

CONT: Final = int(_classic.PTRACE_CONT)
SYSCALL: Final = int(_classic.PTRACE_SYSCALL)
DETACH: Final = int(_classic.PTRACE_DETACH)
PEEKUSER: Final = int(_classic.PTRACE_PEEKUSER)
POKEUSER: Final = int(_classic.PTRACE_POKEUSER)
GETSIGINFO: Final = 0x4202
GETEVENTMSG: Final = 0x4201
SEIZE: Final = 0x4206
INTERRUPT: Final = 0x4207
LISTEN: Final = 0x4208
GET_SYSCALL_INFO: Final = 0x420E

O_TRACESYSGOOD: Final = 1
O_TRACEFORK: Final = 1 << 1
O_TRACEVFORK: Final = 1 << 2
O_TRACECLONE: Final = 1 << 3
O_TRACEEXEC: Final = 1 << 4
O_TRACEEXIT: Final = 1 << 6
O_TRACESECCOMP: Final = 1 << 7
O_EXITKILL: Final = 1 << 20

EVENT_FORK: Final = 1
EVENT_VFORK: Final = 2
EVENT_CLONE: Final = 3
EVENT_EXEC: Final = 4
EVENT_EXIT: Final = 6
EVENT_SECCOMP: Final = 7
EVENT_STOP: Final = 128

WALL: Final = 0x40000000

# These calls return at once, so the interpreter's lock is kept through them (PyDLL): giving it up four
# times a stop would hand it to a background thread again and again.
_careful = ctypes.PyDLL(_libc._name, use_errno=True)
_ptrace = _careful.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


quick = ctypes.PyDLL(_libc._name).ptrace
"""ptrace(2) for the hot stops: request, tid, and two more, which are small numbers or ctypes pointers. -1 if it
failed, and nobody asks why. Without argument types and errno it takes half the time of `request`."""


class SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info of linux/ptrace.h (5.3 and later): 88 bytes, entry and exit overlaid."""

    _fields_ = (
        ("op", ctypes.c_uint8),  # 0 none, 1 entry, 2 exit, 3 seccomp
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("words", ctypes.c_uint64 * 8),  # entry: nr, six arguments, ret_data; exit: result, is_error
    )


INFO_ENTRY: Final = 1
INFO_EXIT: Final = 2
INFO_SECCOMP: Final = 3
INFO_BYTES: Final = ctypes.sizeof(SyscallInfo)


class SignalInfo(ctypes.Structure):
    """The head of siginfo_t, as far as every signal has it."""

    _fields_ = (
        ("signo", ctypes.c_int),
        ("errno", ctypes.c_int),
        ("code", ctypes.c_int),
        ("pad", ctypes.c_int),
        ("pid", ctypes.c_int),
        ("uid", ctypes.c_uint),
        ("rest", ctypes.c_char * 104),
    )


# Places in struct user_regs_struct of x86_64 (sys/reg.h).
_RBX_OFFSET, _R10_OFFSET, _R8_OFFSET, _RAX_OFFSET = 5 * 8, 7 * 8, 9 * 8, 10 * 8
_RDX_OFFSET, _RDI_OFFSET, _ORIG_RAX_OFFSET = 12 * 8, 14 * 8, 15 * 8
_ERESTARTNOHAND = 514
_ENDED_BY_A_STOP = {
    232: (_R10_OFFSET, True), 281: (_R10_OFFSET, True), 441: (_R10_OFFSET, False), 128: (_RDX_OFFSET, False),
    65: (None, False), 220: (_R10_OFFSET, False), 208: (_R8_OFFSET, False),
}  # fmt: skip
"""epoll_wait, epoll_pwait, epoll_pwait2, rt_sigtimedwait, semop, semtimedop, io_getevents of x86_64: which
register holds the time limit, and whether it is a number (a negative one: none) or a pointer (NULL: none)."""
_info = SyscallInfo()
_info_address = ctypes.addressof(_info)
WORDS: Final = memoryview(_info).cast("B")[24:].cast("Q")
"""What the last `syscall_words` told, unsigned. At an entry: number and six arguments."""
RESULT: Final = memoryview(_info).cast("B")[24:32].cast("q")
"""At an exit: the result, signed, as the program's register has it."""
CALL_WORDS: Final = WORDS[:7]
"""Number and arguments alone."""
ARCHITECTURE: Final = memoryview(_info).cast("B")[4:8].cast("I")
"""AUDIT_ARCH of that stop: a 32-bit call on a 64-bit kernel differs."""
KIND: Final = memoryview(_info).cast("B")[:1]
"""What kind of stop that was: INFO_ENTRY, INFO_EXIT, INFO_SECCOMP, or none of a call (0)."""
INFO_POINTER: Final = ctypes.c_void_p(_info_address)
"""Where `quick` has to put the answer to GET_SYSCALL_INFO."""
_message = ctypes.c_uint64()
_signal = SignalInfo()


def request(what: int, tid: int, address: int = 0, value: int = 0) -> int:
    """Make a ptrace call and return its result, or a negative errno (`GONE` if the tracee died)."""
    result = int(_ptrace(what, tid, address, value))
    return result if result != -1 else -(ctypes.get_errno() or errno.ESRCH)


def resume(tid: int, how: int, signal_number: int = 0) -> int:
    """Let a stopped tracee run on (CONT, SYSCALL or LISTEN), delivering a signal."""
    return int(quick(how, tid, 0, signal_number))


def syscall_words(tid: int) -> bool:
    """Fill `WORDS` and `RESULT` with the tracee's syscall stop; False if it died.

    The memory is used again by the next call; read it at once.
    """
    return bool(quick(GET_SYSCALL_INFO, tid, INFO_BYTES, INFO_POINTER) > 0)


def set_first_argument(tid: int, value: int) -> None:
    """Change the first argument of the call that an x86_64 tracee is about to make, after `syscall_words`."""
    _ptrace(POKEUSER, tid, _RBX_OFFSET if _info.arch == AUDIT_ARCH_I386 else _RDI_OFFSET, value)


def wait_again(tid: int) -> bool:
    """Have an x86_64 tracee make its call again, if that waited without limit and the tracer's interrupt ended it.

    The kernel goes on with most calls by itself after a stop; those of `_ENDED_BY_A_STOP` return EINTR
    (signal(7)). While the tracee is stopped on its way out of the call, the result is made the one
    with which the kernel restarts calls, unless a signal's handler has to run: then it is EINTR again.
    A wait with a limit would be too long by what it has waited; so that one keeps its EINTR.

    Returns:
        Whether it is made again.
    """
    if _ptrace(PEEKUSER, tid, _RAX_OFFSET, 0) != -errno.EINTR:
        return False
    found = _ENDED_BY_A_STOP.get(_ptrace(PEEKUSER, tid, _ORIG_RAX_OFFSET, 0))
    if found is None:
        return False
    register, number = found
    if register is not None:
        limit = int(_ptrace(PEEKUSER, tid, register, 0)) & (0xFFFFFFFF if number else -1)
        if not (limit >> 31 if number else limit == 0):
            return False
    return int(_ptrace(POKEUSER, tid, _RAX_OFFSET, -_ERESTARTNOHAND & 0xFFFFFFFFFFFFFFFF)) == 0


def event_message(tid: int) -> int:
    """Return the message of an event stop (a new tid, an exit status), or GONE."""
    if _ptrace(GETEVENTMSG, tid, 0, ctypes.addressof(_message)) == -1:
        return GONE
    return int(_message.value)


def signal_info(tid: int) -> SignalInfo | None:
    """Return the siginfo of the signal about to be delivered; None in a group stop, or if it died."""
    if _ptrace(GETSIGINFO, tid, 0, ctypes.addressof(_signal)) == -1:
        return None
    return _signal


def prctl(option: int, argument: int = 0, address: int = 0) -> None:
    """Call prctl(2).

    Raises:
        OSError: With the kernel's errno.
    """
    if _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_void_p(address), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
