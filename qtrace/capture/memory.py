"""Another process's memory, by process_vm_readv(2) or /proc/PID/mem: it is neither stopped nor changed.

A module of its own, without python-ptrace: a live look has to start at once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable


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


MOST_OPEN = 128
"""So many processes' memories are kept open, where a process may have 1,024 files."""


class OpenMemory:
    """Reads a few bytes at a time from the same processes, for one thread.

    /proc/TID/mem once open, a read costs a third of process_vm_readv(2). It belongs to an address space:
    after an exec, or when the process has ended, it has to be forgotten.
    """

    def __init__(self) -> None:
        self._files: dict[int, int] = {}
        self._otherwise = MemoryReader()
        self.before_close: Callable[[int], None] | None = None
        """Told of a process whose memory is about to be closed."""

    def number(self, tid: int, pid: int, address: int, size: int) -> int | None:
        """Return up to eight bytes of memory as a little-endian number; None where it cannot be read.

        Args:
            tid: A living thread of the process: its leader may have ended, and has no memory then.
            pid: The process.
            address: Where.
            size: At most 8.
        """
        file = self._files.get(pid)
        if file is None:
            file = self._open(tid, pid)
        try:
            raw = os.pread(file, size, address)
        except (OSError, OverflowError):  # never opened, not mapped, or no address at all
            raw = b""
        raw = raw or self._otherwise(tid, address, size)
        return int.from_bytes(raw, "little") if raw else None

    def file(self, tid: int, pid: int) -> int:
        """Return a descriptor of a process's memory, good until `before_close`; -1 if there is no room for another."""
        file = self._files.get(pid)
        if file is None:
            file = self._open(tid, pid) if len(self._files) < MOST_OPEN else -1
        return file

    def _open(self, tid: int, pid: int) -> int:
        if len(self._files) >= MOST_OPEN:
            self.forget(next(iter(self._files)))
        try:
            file = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            file = -1
        self._files[pid] = file
        return file

    def forget(self, pid: int) -> None:
        """Close a process's memory."""
        if self.before_close is not None:
            self.before_close(pid)
        file = self._files.pop(pid, -1)
        if file >= 0:
            os.close(file)
