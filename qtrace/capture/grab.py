"""Ask the kernel about another process's descriptor through a copy of it (pidfd_getfd).

The copy is closed at once. Opening /proc/PID/fd/N instead would add a reader or a writer to a pipe
for a moment, and with it change what the program sees; a duplicate does not (pidfd_getfd(2), 5.6).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from qtrace.model.syscalls import Architecture, number_of

F_GETPIPE_SZ = 1032
_libc = ctypes.CDLL(None, use_errno=True)
_GETFD = number_of("pidfd_getfd", Architecture.X86_64)  # the same on every architecture since 5.6


@contextmanager
def borrowed(pid: int, fd: int) -> Iterator[int]:
    """Give a copy of another process's descriptor, closed afterwards.

    Raises:
        OSError: The process or the descriptor is gone, or it may not be had (EPERM).
    """
    process = os.pidfd_open(pid)
    try:
        copy = int(_libc.syscall(_GETFD, process, fd, 0))
        if copy < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(process)
    try:
        yield copy
    finally:
        os.close(copy)


def readable_bytes(copy: int) -> int | None:
    """Return how many bytes wait in a pipe or socket (FIONREAD), or None."""
    import termios

    try:
        return int(struct.unpack("i", fcntl.ioctl(copy, termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return None


def pipe_level(pid: int, fd: int) -> tuple[int | None, int | None]:
    """Return bytes in a pipe and its capacity in bytes; None for what cannot be asked."""
    try:
        with borrowed(pid, fd) as copy:
            return readable_bytes(copy), fcntl.fcntl(copy, F_GETPIPE_SZ)
    except OSError:
        return None, None


class SocketState:
    """What a socket says of itself."""

    __slots__ = ("connected", "family", "listening", "local", "queued_bytes", "remote", "send_buffer")

    family: int
    listening: bool
    queued_bytes: int | None
    send_buffer: int
    local: tuple[str, int] | None
    """Address and port of an internet socket."""
    remote: tuple[str, int] | None
    connected: bool

    def __init__(
        self,
        family: int,
        listening: bool,
        queued_bytes: int | None,
        send_buffer: int,
        local: tuple[str, int] | None,
        remote: tuple[str, int] | None,
        connected: bool,
    ) -> None:
        self.family = family
        self.listening = listening
        self.queued_bytes = queued_bytes
        self.send_buffer = send_buffer
        self.local = local
        self.remote = remote
        self.connected = connected


def socket_state(pid: int, fd: int) -> SocketState | None:
    """Return a socket's state, or None if it cannot be asked."""
    import socket  # most programs have none that is asked

    try:
        with borrowed(pid, fd) as copy, socket.socket(fileno=os.dup(copy)) as own:
            family = own.family
            listening = bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            send_buffer = own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            internet = family in (socket.AF_INET, socket.AF_INET6)
            local = own.getsockname()[:2] if internet else None
            connected, remote = True, None
            try:
                peer = own.getpeername()
                remote = peer[:2] if internet else None
            except OSError:
                connected = False
            queued = None if listening else readable_bytes(copy)
            return SocketState(int(family), listening, queued, send_buffer, local, remote, connected)
    except OSError:
        return None
