"""bpf(2): maps, programs, and where they are attached, as far as `qtrace.capture.bpf_rings` needs them.

Sources: bpf(2), linux/bpf.h. Numbers of attributes are those of `union bpf_attr`; what is not given is zero.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_CALL = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 5, 17
_ARRAY, _RINGBUF = 2, 27
_MMAPABLE = 1 << 10
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
_INSTRUCTION_BYTES = 8
_KEY_BYTES = 4


def _bpf(command: int, attributes: bytes) -> int:
    number = _CALL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"BPF is not known on {os.uname().machine}")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(_libc.syscall(ctypes.c_long(number), ctypes.c_long(command), buffer, ctypes.c_long(len(attributes))))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _create(kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int = 0) -> int:
    return _bpf(_MAP_CREATE, struct.pack("<5I", kind, key_bytes, value_bytes, entries, flags))


def new_words(count: int) -> int:
    """Return the descriptor of so many words of 64 bits, all 0, which can be mapped into memory.

    Raises:
        OSError: The kernel refused (as each of these functions has it).
    """
    return _create(_ARRAY, _KEY_BYTES, count * 8, 1, _MMAPABLE)  # the only element of an array


def new_ring(size_bytes: int) -> int:
    """Return the descriptor of a ring buffer; its size has to be a power of two, and at least a page."""
    return _create(_RINGBUF, 0, 0, size_bytes)


def load(code: bytes, name: str) -> int:
    """Return the descriptor of a program for a raw tracepoint, which the kernel has verified.

    Args:
        code: Its instructions.
        name: What `bpftool prog` calls it: at most 15 letters.
    """
    licence = ctypes.create_string_buffer(b"GPL")
    instructions = ctypes.create_string_buffer(code, len(code))
    count = len(code) // _INSTRUCTION_BYTES
    where = ctypes.addressof(instructions), ctypes.addressof(licence)
    no_log = (0, 0, 0)
    return _bpf(_PROG_LOAD, struct.pack("<2I2Q2IQ2I16s", _RAW_TRACEPOINT, count, *where, *no_log, 0, 0, name.encode()))


def attach(program: int, tracepoint: str) -> int:
    """Attach a program to a raw tracepoint; it is detached when the descriptor that is returned is closed."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", ctypes.addressof(name), program))
