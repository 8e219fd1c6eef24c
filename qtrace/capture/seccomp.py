"""The seccomp filter with which only the recorded calls stop, where they are worth a stop.

A filter needs no_new_privs (or CAP_SYS_ADMIN), which strips setuid programs of their rights, and a
call that it sends to a tracer which is gone fails with ENOSYS: so the tracer sets EXITKILL.
On x86_64 a 32-bit program's calls have numbers of their own and a part of the filter of their own.
Calls of any other architecture are let through.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Collection, Mapping

from qtrace.capture.ptrace_calls import prctl
from qtrace.model import i386
from qtrace.model.syscalls import AUDIT_ARCH, TABLE, Architecture, Trait, number_of

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
RET_ALLOW = 0x7FFF0000
RET_TRACE = 0x7FF00000

_LD_W_ABS = 0x20
_JA = 0x05
_JEQ_K = 0x15
_JSET_K = 0x45
_RET_K = 0x06
_NR, _ARCH = 0, 4
_FIRST_ARGUMENT = 16
O_EXCL = 0o200
CLONE_UNTRACED = 0x800000


def recorded_numbers(architecture: Architecture, left_out: Trait | None = None) -> list[int]:
    """Return the numbers of the recorded calls, but for those that have a trait of `left_out`."""
    wanted = (row for row in TABLE if row.recorded and not (left_out and row.traits & left_out))
    numbers = (number_of(row.name, architecture) for row in wanted)
    return sorted(number for number in numbers if number is not None)


def _instruction(code: int, jt: int, jf: int, k: int) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


def build_filter(architecture: Architecture, numbers: Collection[int], compat: Collection[int] = ()) -> bytes:
    """Return the BPF program that traces the numbers, and openat with O_EXCL, and allows the rest.

    openat is wanted only where a named semaphore is made (``/dev/shm/sem.*``, O_CREAT|O_EXCL), so
    the filter looks at the flags: a program opens hundreds of files as it starts. And a clone whose child shall
    not be traced stops in any case (see `qtrace.capture.callhooks`).

    Args:
        architecture: The machine.
        numbers: Its numbers.
        compat: Those of a 32-bit program on it (x86_64 only).
    """
    openat = number_of("openat", architecture)
    assert openat is not None
    clone = number_of("clone", architecture)
    only_if = {openat: (2, O_EXCL)}
    if clone is not None and clone not in numbers:
        only_if[clone] = (0, CLONE_UNTRACED)
    native = _tested(numbers, only_if)
    program = [
        _instruction(_LD_W_ABS, 0, 0, _ARCH),
        _instruction(_JEQ_K, 1, 0, AUDIT_ARCH[architecture]),
        _instruction(_JA, 0, 0, len(native)),
        *native,
    ]
    if compat:
        program += [
            _instruction(_JEQ_K, 1, 0, i386.AUDIT_ARCH_I386),
            _instruction(_RET_K, 0, 0, RET_ALLOW),
            *_tested(compat, dict.fromkeys(i386.numbers_of({"openat"}), (2, O_EXCL))),
        ]
    program.append(_instruction(_RET_K, 0, 0, RET_ALLOW))
    return b"".join(program)


def _tested(numbers: Collection[int], only_if: Mapping[int, tuple[int, int]]) -> list[bytes]:
    """Trace the numbers, and others only if an argument, by its place, has a bit of a mask."""
    program = [_instruction(_LD_W_ABS, 0, 0, _NR)]
    # Each test jumps over a RET of its own: a jump reaches 255 instructions at most.
    for number in sorted(set(numbers) - set(only_if)):
        program += [_instruction(_JEQ_K, 0, 1, number), _instruction(_RET_K, 0, 0, RET_TRACE)]
    for number, (place, mask) in only_if.items():
        program += [
            _instruction(_JEQ_K, 0, 4, number),
            _instruction(_LD_W_ABS, 0, 0, _FIRST_ARGUMENT + 8 * place),
            _instruction(_JSET_K, 0, 1, mask),
            _instruction(_RET_K, 0, 0, RET_TRACE),
            _instruction(_RET_K, 0, 0, RET_ALLOW),
        ]
    return [*program, _instruction(_RET_K, 0, 0, RET_ALLOW)]


def install(program: bytes) -> None:
    """Set no_new_privs and install the filter in the calling thread; exec keeps both.

    Raises:
        OSError: The kernel refused.
    """
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("<H6xQ", len(program) // 8, ctypes.addressof(code))
    head = ctypes.create_string_buffer(fprog, len(fprog))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(head))
