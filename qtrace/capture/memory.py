"""Another process's memory, by process_vm_readv(2): it is neither stopped nor changed.

A module of its own, without python-ptrace: a live look has to start at once.
"""

from __future__ import annotations

import ctypes


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


_vm_readv = ctypes.PyDLL(None, use_errno=True).process_vm_readv
_vm_readv.restype = ctypes.c_ssize_t
_vm_readv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)


class MemoryReader:
    """Reads other processes' memory, through a buffer of its own: one for each thread that reads."""

    def __init__(self, most_bytes: int = 4096) -> None:
        self._buffer = ctypes.create_string_buffer(most_bytes)
        self._view = memoryview(self._buffer).cast("B")
        self._local = _Iovec(ctypes.addressof(self._buffer), 0)
        self._remote = _Iovec(0, 0)
        self._addresses = ctypes.addressof(self._local), ctypes.addressof(self._remote)

    def __call__(self, tid: int, address: int, size: int) -> bytes:
        """Return up to size bytes of a process's memory; empty where it cannot be read."""
        self._local.len = size
        self._remote.base = address
        self._remote.len = size
        got = int(_vm_readv(tid, self._addresses[0], 1, self._addresses[1], 1, 0))
        return bytes(self._view[:got]) if got > 0 else b""
