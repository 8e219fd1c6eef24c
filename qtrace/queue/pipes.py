"""Sizes and levels of a pipe, as the kernel knows them."""

from __future__ import annotations

import array
import errno
import fcntl
import termios

from .errors import PipeSizeError

__all__ = ["bytes_in_pipe", "pipe_capacity_bytes", "set_pipe_bytes"]

# linux/fcntl.h, F_LINUX_SPECIFIC_BASE + 7 and + 8; in the fcntl module since 3.10.
F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032
MAX_PIPE_BYTES = 1 << 31
MAX_SIZE_PATH = "/proc/sys/fs/pipe-max-size"


def bytes_in_pipe(handle: int) -> int:
    """Return how many unread bytes the pipe behind `handle` holds (FIONREAD, pipe(7))."""
    level = array.array("i", [0])
    fcntl.ioctl(handle, termios.FIONREAD, level)
    return level[0]


def pipe_capacity_bytes(handle: int) -> int:
    """Return the pipe's capacity in bytes (F_GETPIPE_SZ).

    Short writes can fill a pipe earlier: it has capacity / page size slots, and a
    write that does not fit behind the last one takes a slot of its own.
    """
    return fcntl.fcntl(handle, F_GETPIPE_SZ)


def set_pipe_bytes(handle: int, size_bytes: int) -> int:
    """Set the pipe's capacity and return what it became: the kernel rounds up to 2**n pages.

    Raises:
        PipeSizeError: not a positive size, or above what this user may have.
    """
    if size_bytes <= 0:
        raise PipeSizeError(f"a pipe of {size_bytes} bytes: the size must be positive")
    if size_bytes > MAX_PIPE_BYTES:
        # The argument is 32 bits wide, and fcntl.fcntl cuts off the rest without a word.
        raise PipeSizeError(f"a pipe of {size_bytes} bytes: the kernel takes at most {MAX_PIPE_BYTES}")
    try:
        return fcntl.fcntl(handle, F_SETPIPE_SZ, size_bytes)
    except OSError as error:
        raise PipeSizeError(_refusal(size_bytes, error)) from error


def _refusal(size_bytes: int, error: OSError) -> str:
    asked = f"a pipe of {size_bytes} bytes"
    if error.errno == errno.EPERM:
        return (
            f"{asked} is above the system's limit of {_limit_bytes()} bytes ({MAX_SIZE_PATH}) or the user's share "
            "(pipe-user-pages-soft); ask for less, or raise it as root: sysctl fs.pipe-max-size=..."
        )
    if error.errno == errno.EBUSY:
        return f"{asked} is smaller than what is in it now"
    return f"{asked}: the kernel refuses ({error.strerror})"


def _limit_bytes() -> str:
    try:
        with open(MAX_SIZE_PATH, "rb") as limit:
            return str(int(limit.read()))
    except OSError:
        return "unknown"
