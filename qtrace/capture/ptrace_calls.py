"""ptrace, as thin as it can be: the only file that imports python-ptrace.

A tracer's loop makes its calls to ptrace(2) itself: python-ptrace's wrapper costs 10 to 15 % of it, and lacks SEIZE
and its kin, GET_SYSCALL_INFO and an event message of the kernel's eight bytes (linux/ptrace.h). What reads and changes
a thread's registers is python-ptrace's. It takes 6 ms to load, of which most is Python's logging, and few programs need
it: so it is loaded when they do. A tracee can die at any moment, even while it is stopped: ESRCH is an expected answer,
and comes back as `GONE`, never as an exception.
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
from functools import cache

from qtrace.model.i386 import AUDIT_ARCH_I386

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final


@contextlib.contextmanager
def _loaded_already() -> Iterator[None]:
    """Have python-ptrace take the C library that this process has: looking for its file runs ldconfig.

    The module that looks is not even loaded: it brings subprocess and tempfile, 5 ms.
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


@cache
def registers() -> Any:
    """Return python-ptrace's calls about registers, `ptrace.binding.func`."""
    with warnings.catch_warnings(), _loaded_already():
        # Its package reads its version through a deprecated way on Python 3.12 and later.
        warnings.simplefilter("ignore", DeprecationWarning)
        from ptrace.binding import func
    return func


GONE: Final = -errno.ESRCH

CONT: Final = 7
SYSCALL: Final = 24
DETACH: Final = 17
GETSIGINFO: Final = 0x4202
GETEVENTMSG: Final = 0x4201
SEIZE: Final = 0x4206
INTERRUPT: Final = 0x4207
LISTEN: Final = 0x4208
GET_SYSCALL_INFO: Final = 0x420E
GETREGSET: Final = 0x4204

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
_careful = ctypes.PyDLL(None, use_errno=True)
_ptrace = _careful.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


quick = ctypes.PyDLL(None).ptrace
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


_ERESTARTNOHAND = 514
_ENDED_BY_A_STOP = {
    232: ("r10", True), 281: ("r10", True), 441: ("r10", False), 128: ("rdx", False),
    65: ("", False), 220: ("r10", False), 208: ("r8", False),
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
_NT_PRSTATUS: Final = 1
_CALL_REGISTERS: Final = {
    "x86_64": (15, 14, 13, 12, 7, 9, 8),  # orig_rax, rdi, rsi, rdx, r10, r8, r9
    "aarch64": (8, 0, 1, 2, 3, 4, 5),
}
_registers = (ctypes.c_uint64 * 64)()
_registers_there = (ctypes.c_uint64 * 2)(ctypes.addressof(_registers), ctypes.sizeof(_registers))  # struct iovec
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
    _set_register(tid, "rbx" if _info.arch == AUDIT_ARCH_I386 else "rdi", value)


def _set_register(tid: int, name: str, value: int) -> bool:
    func = registers()
    try:
        func.ptrace_pokeuser(tid, getattr(func.ptrace_registers_t, name).offset, value & 0xFFFFFFFFFFFFFFFF)
    except func.PtraceError:
        return False  # it died
    return True


def wait_again(tid: int) -> bool:
    """Have an x86_64 tracee make its call again, if that waited without limit and the tracer's interrupt ended it.

    The kernel goes on with most calls by itself after a stop; those of `_ENDED_BY_A_STOP` return EINTR
    (signal(7)). While the tracee is stopped on its way out of the call, the result is made the one
    with which the kernel restarts calls, unless a signal's handler has to run: then it is EINTR again.
    A wait with a limit would be too long by what it has waited; so that one keeps its EINTR.

    Returns:
        Whether it is made again.
    """
    try:
        found = registers().ptrace_getregs(tid)
    except registers().PtraceError:
        return False  # it died
    if found.rax != -errno.EINTR & 0xFFFFFFFFFFFFFFFF or found.orig_rax not in _ENDED_BY_A_STOP:
        return False
    register, number = _ENDED_BY_A_STOP[found.orig_rax]
    if register:
        limit = getattr(found, register) & (0xFFFFFFFF if number else 0xFFFFFFFFFFFFFFFF)
        if not (limit >> 31 if number else limit == 0):
            return False
    return _set_register(tid, "rax", -_ERESTARTNOHAND)


def event_message(tid: int) -> int:
    """Return the message of an event stop (a new tid, an exit status), or GONE."""
    if _ptrace(GETEVENTMSG, tid, 0, ctypes.addressof(_message)) == -1:
        return GONE
    return int(_message.value)


def call_at_event(tid: int) -> list[int] | None:
    """Return number and arguments of the call that an event stop lies in the middle of, as a 64-bit program made it.

    PTRACE_GET_SYSCALL_INFO tells nothing there, so the registers do: `struct user_regs_struct` of sys/user.h, and
    `struct user_pt_regs` of asm/ptrace.h. None if the tracee died.
    """
    places = _CALL_REGISTERS.get(os.uname().machine)
    if places is None or _ptrace(GETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(_registers_there)) == -1:
        return None
    return [_registers[place] for place in places]


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
    if _careful.prctl(option, ctypes.c_ulong(argument), ctypes.c_void_p(address), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
