"""Which object a descriptor is, by identity and not by name: see `qtrace.model.ids.ObjectId`."""

from __future__ import annotations

import os
import stat as stat_modes

from qtrace.capture import procfs
from qtrace.model.ids import ObjectId
from qtrace.model.kinds import ObjectKind

_ANON = {
    "anon_inode:[eventpoll]": ObjectKind.EPOLL,
    "anon_inode:[timerfd]": ObjectKind.CLOCK,
    "anon_inode:[signalfd]": ObjectKind.SIGNAL,
}


TERMINAL_MASTERS = ("/dev/ptmx", "/dev/pts/ptmx")
"""The side of a pseudo terminal that a program holds which plays the terminal (pty(7)); all have one name, and
fdinfo tells which is which."""


def identify_link(pid: int, fd: int, link: str) -> tuple[ObjectId, ObjectKind]:
    """Return a descriptor's object and kind.

    Args:
        pid: Its process.
        fd: Its number.
        link: What /proc/PID/fd/FD points to.
    """
    if link.startswith("pipe:["):
        return ObjectId(link), ObjectKind.PIPE
    if link.startswith("socket:["):
        return ObjectId(link), ObjectKind.SOCKET
    if link.startswith(("anon_inode:[pidfd]", "pidfd:[")):
        number = procfs.fdinfo_field(procfs.fdinfo(pid, fd), "Pid") or "-1"
        return ObjectId(f"pidfd:{number}"), ObjectKind.PIDFD
    if link == "anon_inode:[eventfd]":
        unique = procfs.fdinfo_field(procfs.fdinfo(pid, fd), "eventfd-id")
        return ObjectId(f"eventfd:[{unique}]" if unique else f"eventfd:{pid}:{fd}"), ObjectKind.EVENTFD
    if link in _ANON:
        return ObjectId(f"{_ANON[link]}:{pid}:{fd}"), _ANON[link]
    if link.startswith("/"):
        return _path(pid, fd, link)
    return ObjectId(f"other:{pid}:{fd}"), ObjectKind.OTHER


def _path(pid: int, fd: int, link: str) -> tuple[ObjectId, ObjectKind]:
    try:
        status = os.stat(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ObjectId(f"path:{link}"), ObjectKind.FILE
    if stat_modes.S_ISFIFO(status.st_mode):
        return ObjectId(f"fifo:{status.st_dev}:{status.st_ino}"), ObjectKind.FIFO
    if link in TERMINAL_MASTERS:
        number = procfs.fdinfo_field(procfs.fdinfo(pid, fd), "tty-index")
        if number is not None:
            return ObjectId(f"ptmx:{number}"), ObjectKind.TTY
    if stat_modes.S_ISCHR(status.st_mode):
        terminal = link.startswith(("/dev/pts/", "/dev/tty", "/dev/console"))
        return ObjectId(f"{'tty' if terminal else 'char'}:{link}"), ObjectKind.TTY if terminal else ObjectKind.OTHER
    return ObjectId(f"file:{status.st_dev}:{status.st_ino}"), ObjectKind.FILE
