"""What this machine permits, found by trying: each test does for a moment what qtrace would do.

Reading settings alone would not do: a container's seccomp profile, a security module or a missing
kernel option forbid things that no file under /proc tells of. The settings are read afterwards, to
say which of them it was and which command lifts it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtrace.capture import bpf_rings, grab, hot_stops, perf_events, procfs, ptrace_calls, pystacks, seccomp
from qtrace.model.syscalls import Architecture

_CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_PERFMON = 19, 21, 38
_OLDEST_KERNEL = (5, 3)
"""PTRACE_GET_SYSCALL_INFO came with it."""
_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_END_SECONDS = 5.0
DOCTOR = "See what this machine permits with: qtrace doctor"
_SUDO = "the same command as root: sudo ..."
_GETPPID = {"x86_64": 110, "aarch64": 173}
"""A call that changes nothing and that a child can be told to make."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    name: str
    ok: bool
    needed: bool
    """Whether `qtrace record` cannot do without it."""
    found: str
    """What was seen."""
    blocked_by: str = ""
    """The setting that forbids it; empty where it works."""
    lift: str = ""
    """The one command that lifts it; empty where there is none."""
    without: str = ""
    """What works all the same."""


def examine() -> list[Finding]:
    """Try everything that qtrace uses, and return what works and what does not, in order of weight."""
    findings = [_machine()]
    if sys.platform != "linux":
        return findings
    findings += [_rights(), _trace_a_child(), _filter_a_child()]
    with _stranger() as (pid, fd):
        findings += [_attach(pid), _look_at_call(pid, fd), _take_descriptor(pid, fd)]
    return [*findings, _python_stacks(), _hot_stops(), _perf()]


# --- what may stand in the way -------------------------------------------------------------------


def effective_capabilities() -> int:
    """Return this process's effective capabilities, a bit each (linux/capability.h)."""
    return int(procfs.status_fields(os.getpid()).get("CapEff", "0"), 16)


def has_capability(bit: int) -> bool:
    """Whether this process has a capability."""
    return bool(effective_capabilities() >> bit & 1)


def _setting(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def in_container() -> bool:
    """Whether this looks like a container: by its marks, or root without root's rights."""
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"), Path("/run/systemd/container"))
    if any(mark.exists() for mark in marks):
        return True
    return os.geteuid() == 0 and not has_capability(_CAP_SYS_ADMIN)


def why_no_ptrace(child: bool, pid: int | None = None) -> tuple[str, str]:
    """Return which setting forbids tracing, most likely, and the command that lifts it.

    Args:
        child: Whether it was an own child that could not be traced; else another process.
        pid: That process, where it is a given one.
    """
    tracer = procfs.status_fields(os.getpid()).get("TracerPid", "0")
    if child and tracer != "0":
        return f"this process is traced itself, by process {tracer}, which traces all that it starts", ""
    found = _why_not_this_one(pid) if pid is not None else None
    if found is not None:
        return found
    scope = _setting(_SCOPE)
    if scope == 3:
        return "kernel.yama.ptrace_scope is 3: nobody may trace until the next start", "reboot, with another setting"
    if in_container() and not has_capability(_CAP_SYS_PTRACE):
        return "the container has no CAP_SYS_PTRACE, or a seccomp profile forbids ptrace", (
            "docker run --cap-add=SYS_PTRACE ..."
        )
    if scope is not None and scope >= (2 if child else 1) and not has_capability(_CAP_SYS_PTRACE):
        whom = "only who has CAP_SYS_PTRACE may trace" if scope == 2 else "only descendants may be traced"
        return f"kernel.yama.ptrace_scope is {scope}: {whom}", "sudo sysctl kernel.yama.ptrace_scope=0"
    if procfs.status_fields(os.getpid()).get("Seccomp") == "2":
        return "a seccomp profile around this process forbids ptrace", "start it outside of the sandbox"
    return "a security module (SELinux, AppArmor), or a tracer that is there already", ""


def _why_not_this_one(pid: int) -> tuple[str, str] | None:
    """What is about the process itself, and not about the machine; None if nothing is."""
    try:
        fields = procfs.status_fields(pid)
        owner = os.stat(f"/proc/{pid}/stat").st_uid  # of the folder it tells nothing: task_dump_owner() of the kernel
    except OSError:
        return None
    uid = int(fields.get("Uid", "-1").split()[0])
    if fields.get("TracerPid", "0") != "0":
        return f"process {pid} is traced already, by process {fields['TracerPid']}", ""
    if has_capability(_CAP_SYS_PTRACE):
        inside = Path("/proc/self/uid_map").read_text().split()[:3] != ["0", "0", "4294967295"]
        why = f"this is a user namespace of its own, and process {pid} is outside of it"
        return (why, "the same command, outside of the namespace") if inside else None
    if uid != os.geteuid():
        return f"process {pid} belongs to user {uid}, and this is user {os.geteuid()}", _SUDO
    if owner != uid:
        why = "has made itself unreadable (a setuid program, or PR_SET_DUMPABLE)"
        return f"process {pid} {why}", _SUDO
    return None


def advice(pid: int | None) -> str:
    """Return what to do about a ptrace that was refused (EPERM), in the words of `qtrace doctor`.

    Args:
        pid: The process; None if it was one that qtrace has just started.
    """
    child = pid is None
    why, lift = why_no_ptrace(child, pid)
    own = "" if child else "Only one's own processes may be traced, and by one tracer at a time.\n"
    return f"{own}Likely: {why}.\n" + (f"To lift that:\n  {lift}\n" if lift else "") + DOCTOR


# --- the tests -----------------------------------------------------------------------------------


def _machine() -> Finding:
    release, machine = platform.release(), platform.machine()
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    known = sys.platform == "linux" and machine in set(Architecture)
    ok = known and tuple(numbers) >= _OLDEST_KERNEL
    blocked = "" if ok else "Linux 5.3 or later on x86_64 or aarch64 is needed to record"
    return Finding(
        "system", ok, True, f"{platform.system()} {release} on {machine}", blocked, "",
        "" if ok else "reading recordings: explain FILE, report, export",
    )  # fmt: skip


def _rights() -> Finding:
    bits = {"CAP_SYS_PTRACE": _CAP_SYS_PTRACE, "CAP_PERFMON": _CAP_PERFMON, "CAP_SYS_ADMIN": _CAP_SYS_ADMIN}
    held = [name for name, bit in bits.items() if has_capability(bit)]
    scope, paranoid = _setting(_SCOPE), _setting(_PARANOID)
    words = [
        f"user {os.geteuid()}" + (", in a container" if in_container() else ""),
        f"capabilities: {', '.join(held) or 'none that matter here'}",
        f"ptrace_scope {'not there (no limit)' if scope is None else scope}",
        f"perf_event_paranoid {'not there' if paranoid is None else paranoid}",
    ]
    return Finding("rights", True, False, "; ".join(words))


@contextlib.contextmanager
def _child(work: bytes | None = None) -> Iterator[tuple[int, int]]:
    """A child that waits for a byte, then installs a filter and makes a call; give it and the pipe's end."""
    source, target = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(target)
            os.read(source, 1)
            if work is not None:
                seccomp.install(work)
                os.getppid()
        finally:
            os._exit(0)
    os.close(source)
    try:
        yield pid, target
    finally:
        os.close(target)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while not _is_end(os.waitpid(pid, ptrace_calls.WALL)[1]):
                pass


def _is_end(status: int) -> bool:
    return not os.WIFSTOPPED(status)


def _trace_a_child() -> Finding:
    with _child() as (pid, _):
        failed = ptrace_calls.request(ptrace_calls.SEIZE, pid, 0, ptrace_calls.O_EXITKILL)
        if failed == 0:
            failed = ptrace_calls.request(ptrace_calls.INTERRUPT, pid)
        if failed == 0:
            os.waitpid(pid, ptrace_calls.WALL)
            failed = 0 if ptrace_calls.syscall_words(pid) else -errno.ENOSYS
    if failed == 0:
        return Finding("trace own programs", True, True, "an own child was traced")
    blocked, lift = why_no_ptrace(child=True)
    return Finding(
        "trace own programs", False, True, f"ptrace: {os.strerror(-failed)}", blocked, lift,
        "qtrace explain PID, as far as /proc may be read; reading recordings",
    )  # fmt: skip


def _filter_a_child() -> Finding:
    name, seen = "seccomp filter", "no stop at the filtered call"
    machine = platform.machine()
    if machine in _GETPPID:
        with _child(seccomp.build_filter(Architecture(machine), [_GETPPID[machine]])) as (pid, target):
            options = ptrace_calls.O_EXITKILL | ptrace_calls.O_TRACESECCOMP
            if ptrace_calls.request(ptrace_calls.SEIZE, pid, 0, options) == 0:
                os.write(target, b"g")
                _, status = os.waitpid(pid, ptrace_calls.WALL)
                if status >> 16 == ptrace_calls.EVENT_SECCOMP:
                    return Finding(name, True, False, "a child stopped at the filtered call alone")
            else:
                seen = "not tried: a child cannot be traced"
    return Finding(
        name, False, False, seen,
        "the kernel has no seccomp filters, or the sandbox around this process forbids them", "",
        "qtrace record --no-seccomp: every call stops, which is slower",
    )  # fmt: skip


@contextlib.contextmanager
def _stranger() -> Iterator[tuple[int, int]]:
    """A process of this user that is no child, as `-p` and `explain` meet them; and a pipe that it has."""
    answer_source, answer = os.pipe()
    end_source, end = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.close(end)
            os.write(answer, str(os.getpid()).encode())
            os.read(end_source, 1)  # end of file when the doctor is done, or dies
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(end_source)
    os.close(answer)
    try:
        yield int(os.read(answer_source, 20)), end_source
    finally:
        os.close(end)
        # Nobody here can reap it, but its end closes the pipe.
        select.select([answer_source], [], [], _END_SECONDS)
        os.close(answer_source)


def _attach(pid: int) -> Finding:
    failed = ptrace_calls.request(ptrace_calls.SEIZE, pid, 0, 0)
    if failed == 0:
        ptrace_calls.request(ptrace_calls.INTERRUPT, pid)
        os.waitpid(pid, ptrace_calls.WALL)
        ptrace_calls.request(ptrace_calls.DETACH, pid)
        return Finding("attach to running programs", True, False, "an own process that is no child was traced")
    blocked, lift = why_no_ptrace(child=False)
    return Finding(
        "attach to running programs", False, False, f"ptrace: {os.strerror(-failed)}", blocked, lift,
        "qtrace record COMMAND: programs that qtrace starts itself",
    )  # fmt: skip


def _look_at_call(pid: int, fd: int) -> Finding:
    name = "look at running programs"
    try:
        line = procfs.syscall_line(pid, pid)
        os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError as error:
        blocked, lift = why_no_ptrace(child=False)
        without = "qtrace record; under sudo, qtrace explain PID"
        return Finding(name, False, False, f"/proc/PID/syscall: {error.strerror}", blocked, lift, without)
    if line is None:
        blocked = "the kernel was built without CONFIG_HAVE_ARCH_TRACEHOOK"
        return Finding(name, False, False, "/proc/PID/syscall is not there", blocked, "", "qtrace record")
    return Finding(name, True, False, "/proc/PID/syscall and /proc/PID/fd can be read")


def _take_descriptor(pid: int, fd: int) -> Finding:
    name = "levels of pipes"
    try:
        with grab.borrowed(pid, fd):
            return Finding(name, True, False, "pidfd_getfd works")
    except OSError as error:
        blocked, lift = why_no_ptrace(child=False)
        if error.errno == errno.ENOSYS:
            blocked, lift = "the kernel is older than 5.6", ""
        without = "verdicts, without the number of bytes in a pipe"
        return Finding(name, False, False, f"pidfd_getfd: {error.strerror}", blocked, lift, without)


def _python_stacks() -> Finding:
    name, without = "Python lines", "verdicts, without the lines of Python"
    program = pystacks.py_spy()
    if program is None:
        return Finding(
            name, False, False, "py-spy is not installed", "py-spy is missing",
            f"{sys.executable} -m pip install py-spy", without,
        )  # fmt: skip
    # py-spy is our child, and we are not its: the same that it does to a recorded program.
    words = [program, "dump", "--nonblocking", "--pid", str(os.getpid())]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, False, False, f"py-spy: {error}", "py-spy cannot be run", "", without)
    if done.returncode == 0:
        return Finding(name, True, False, "py-spy reads Python stacks")
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    blocked, lift = why_no_ptrace(child=False)
    return Finding(name, False, False, f"py-spy: {lines[0]}", blocked, lift, without)


def _hot_stops() -> Finding:
    name, without = "hot stops in C", "the same recordings with the ptrace engine, at two thirds of the speed"
    if hot_stops.library() is not None:
        return Finding(name, True, False, "the library was built, and can be loaded")
    if os.environ.get(hot_stops.PURE_PYTHON):
        blocked, lift = f"{hot_stops.PURE_PYTHON} is set", f"unset {hot_stops.PURE_PYTHON}"
        return Finding(name, False, False, "the library is not to be used", blocked, lift, without)
    return Finding(
        name, False, False, "there is no library that fits this version of qtrace",
        "there was no C compiler when qtrace was installed, or another version was",
        f"install gcc, then: {sys.executable} -m pip install --force-reinstall --no-deps qtrace", without,
    )  # fmt: skip


def _perf() -> Finding:
    name, without = "perf engine", "qtrace record with the ptrace engine, which is the default"
    why = perf_events.why_not()
    if not why:
        without_bpf = bpf_rings.why_not()
        faster = f"not by BPF, which costs half as much: {without_bpf}" if without_bpf else "and by programs of BPF"
        return Finding(name, True, False, f"raw_syscalls can be read through perf_event_open, {faster}")
    if not perf_events.events_folder():
        mounted = any(" tracefs " in line for line in Path("/proc/self/mounts").read_text().splitlines())
        if mounted:
            blocked, lift = "tracefs is mounted, and only root may read it", "sudo chmod -R a+rX /sys/kernel/tracing"
        else:
            blocked, lift = "tracefs is not mounted", "sudo mount -t tracefs tracefs /sys/kernel/tracing"
        return Finding(name, False, False, why, blocked, lift, without)
    paranoid = _setting(_PARANOID)
    if paranoid is not None and paranoid > 1 and not has_capability(_CAP_PERFMON):
        lift = "docker run --cap-add=PERFMON ..." if in_container() else "sudo sysctl kernel.perf_event_paranoid=1"
        return Finding(name, False, False, why, f"kernel.perf_event_paranoid is {paranoid}", lift, without)
    return Finding(name, False, False, why, "a seccomp profile or a security module forbids it", "", without)
