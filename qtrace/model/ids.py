"""Kinds of numbers that are easily taken for one another."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NewType
else:

    def NewType(name, kind):
        return kind


Tgid = NewType("Tgid", int)
"""A thread group: what a person calls the process's pid."""

Tid = NewType("Tid", int)
"""A thread, as the kernel numbers it; the main thread's is the Tgid."""

Fd = NewType("Fd", int)
"""A file descriptor of one process."""

ObjectId = NewType("ObjectId", str)
"""What a thread can wait on, by identity and not by name: see `object_id_of_link` and its kin.

The forms are ``pipe:[INODE]``, ``socket:[INODE]``, ``fifo:DEV:INODE``, ``file:DEV:INODE``,
``tty:PATH``, ``char:PATH``, ``eventfd:PID:FD``, ``epoll:PID:FD``, ``pidfd:PID`` (the process that
it stands for), ``futex:PID:0xADDRESS`` (private: an address space and an address),
``shared:DEV:INODE:0xOFFSET`` (a word in a shared mapping), ``child:PID``, ``children:PID``
(any child of PID), ``lock:DEV:INODE`` (a file lock), ``clock``, ``signal:PID``.
"""
