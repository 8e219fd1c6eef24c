"""Start a program so that it is traced from its first instruction on.

The child waits on a pipe until the tracer has seized it with every option set, installs the seccomp
filter and calls exec. What exec answers comes back through a pipe that a successful exec closes. The
fork is the tracer's own (no subprocess module): only the thread that forked may trace, and between
fork and exec the child has to install a filter.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Sequence

from qtrace.capture import ptrace_calls, seccomp
from qtrace.errors import PermissionRefusedError, TargetError

OPTIONS = (
    ptrace_calls.O_EXITKILL
    | ptrace_calls.O_TRACESYSGOOD
    | ptrace_calls.O_TRACEFORK
    | ptrace_calls.O_TRACEVFORK
    | ptrace_calls.O_TRACECLONE
    | ptrace_calls.O_TRACEEXEC
    | ptrace_calls.O_TRACESECCOMP
)
_FOLLOWING = ptrace_calls.O_TRACEFORK | ptrace_calls.O_TRACEVFORK
"""Threads are followed in any case: they are the program itself."""
_EXEC_FAILED = 127


class Program:
    """What is to be run."""

    __slots__ = ("argv", "path")

    path: str
    argv: tuple[str, ...]

    def __init__(self, path: str, argv: tuple[str, ...]) -> None:
        self.path = path
        self.argv = argv


class Launch:
    """A child that waits to be let go."""

    def __init__(self, program: Program, code: bytes | None, closed: Sequence[int] = ()) -> None:
        """Fork a child that will run the program.

        Args:
            program: What to run.
            code: The seccomp filter; None for none.
            closed: Standard streams that the program is to find closed.

        Raises:
            TargetError: There is no room for another process.
        """
        self.program = program
        try:
            self._fork(program, code, closed)
        except OSError as error:
            raise TargetError(
                f"cannot start a process: {error.strerror}", "See the limits on processes and files with: ulimit -a"
            ) from None

    def _fork(self, program: Program, code: bytes | None, closed: Sequence[int]) -> None:
        go_read, self._go = os.pipe()
        self._answer, answer_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                os.close(self._answer)
                _become(program, code, closed, go_read, answer_write)
            finally:
                os._exit(_EXEC_FAILED)
        os.close(go_read)
        os.close(answer_write)

    def seize(self, follow: bool = True) -> None:
        """Begin to trace the child.

        Args:
            follow: Whether its threads and children are traced too.

        Raises:
            PermissionRefusedError: The system forbids it.
        """
        answer = ptrace_calls.request(ptrace_calls.SEIZE, self.pid, 0, OPTIONS if follow else OPTIONS & ~_FOLLOWING)
        if answer < 0:
            os.close(self._go)
            os.waitpid(self.pid, 0)
            raise refused(-answer)

    def go(self) -> None:
        """Let the child install its filter and call exec."""
        os.write(self._go, b"g")
        os.close(self._go)

    def failure(self) -> TargetError | None:
        """Return why the program could not be started, once the child has ended; None if it could."""
        raw = os.read(self._answer, 4096)
        os.close(self._answer)
        if not raw:
            return None
        what, number = raw.decode().split()
        return _start_error(self.program, what, int(number))


def closed_streams() -> list[int]:
    """Return which of the three standard streams are closed: to be asked before anything opens files."""
    closed = []
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            closed.append(stream)
    return closed


def refused(number: int, pid: int | None = None) -> PermissionRefusedError:
    """Return the error for a ptrace that the system forbids, with what to do about it.

    Args:
        number: What ptrace answered.
        pid: The running process; None if it was a program that qtrace has just started.
    """
    from qtrace.capture import doctor

    if number != errno.EPERM:
        return PermissionRefusedError(f"cannot trace: {os.strerror(number)}", doctor.DOCTOR)
    return PermissionRefusedError(
        "the system does not permit tracing (ptrace: Operation not permitted)", doctor.advice(pid)
    )


def _start_error(program: Program, what: str, number: int) -> TargetError:
    if what == "filter":
        return TargetError(
            f"the seccomp filter could not be installed: {os.strerror(number)}",
            "Record without it: qtrace record --no-seccomp ...",
        )
    hints = {
        errno.ENOENT: "Is the name right? If it is a script: does the interpreter of its first line exist?",
        errno.EACCES: f"Make it executable (chmod +x {program.path}) or name its interpreter.",
        errno.ENOEXEC: "It has no format that the system can run; name its interpreter, or add a #! line.",
    }
    return TargetError(f"cannot run {program.path}: {os.strerror(number)}", hints.get(number, ""))


def _become(program: Program, code: bytes | None, closed: Sequence[int], go_read: int, answer_write: int) -> None:
    """In the child: wait, filter, exec. Never returns if all goes well."""
    if os.read(go_read, 1) != b"g":
        os._exit(_EXEC_FAILED)
    step = "filter"
    try:
        # Python ignores these two; a program expects them as a shell would give them.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if code is not None:
            seccomp.install(code)
        for stream in closed:
            # Opened since by a library of the tracer (SQLite puts /dev/null there), or a pipe of ours.
            if stream != answer_write:
                with contextlib.suppress(OSError):
                    os.close(stream)
        step = "exec"
        os.execve(program.path, list(program.argv), os.environ)
    except OSError as error:
        os.write(answer_write, f"{step} {error.errno or errno.EIO}".encode())
