"""No root is needed for one's own programs; of other people's, qtrace says that it may not look."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from qtrace.tracefile.reader import TraceReader
from tests.capture.behaviours import needs_compiler
from tests.support.processes import qtrace, running, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ROOT / "tests" / "capture" / "programs"
HANG = ROOT / "examples" / "join_before_get.py"


def _as_nobody() -> list[str]:
    """Words that run a command as a user without rights: none if the tests are run by one."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def _environment() -> dict[str, str]:
    # The tests' own interpreter may lie where that user may not go (/root); another of the same
    # version then runs qtrace from here.
    packages = os.pathsep.join([sysconfig.get_path("purelib"), str(ROOT)])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PYTHONPATH": packages, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@cache
def _interpreter() -> str | None:
    # setpriv itself may run what the user may not: the program has to find itself.
    ask = (
        "import os, sys, qtrace.pipeline, numpy, typer\n"
        f"sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])} or not os.access(sys.executable, os.X_OK))"
    )
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        command = [*_as_nobody(), candidate, "-c", ask]
        if os.path.exists(candidate):
            asked = subprocess.run(command, env=_environment(), capture_output=True, timeout=60, cwd="/")
            if asked.returncode == 0:
                return candidate
    return None


@dataclass(frozen=True)
class User:
    """Somebody without rights, and a folder of theirs."""

    python: str
    folder: Path

    def words(self, *arguments: str) -> list[str]:
        """Return a command line that runs Python as this user."""
        return [*_as_nobody(), self.python, *arguments]

    def qtrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run qtrace as this user, in their folder."""
        command = self.words("-m", "qtrace", *arguments)
        return subprocess.run(command, env=_environment(), cwd=self.folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def user() -> Iterator[User]:
    """The user nobody, if the tests are run by root; else whoever runs them."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("no setpriv to become another user with")
    python = _interpreter()
    if python is None:
        pytest.skip("an ordinary user finds no Python here that can run qtrace")
    folder = Path("/tmp", f"qtrace-user-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        yield User(python, folder)
    finally:
        shutil.rmtree(folder)


def test_an_own_program_is_recorded_to_its_verdict(user: User) -> None:
    """record finds the hang, ends it, and has the lines of Python."""
    done = user.qtrace("record", "-o", "run.qtrace", "--hang-after", "1", str(HANG))
    assert done.returncode == 124, done.stderr
    assert "deadlock, proven" in done.stderr
    with TraceReader(user.folder / "run.qtrace") as reader:
        assert reader.meta["end_reason"] == "hang"
        stacks = json.dumps(list(reader.rows("stacks")))
    assert "join_before_get.py" in stacks


def test_an_own_program_is_explained_while_it_hangs(user: User) -> None:
    """explain PID needs no root either: levels, holders and Python lines are there."""
    with running(user.words(str(HANG)), env=_environment(), cwd=user.folder) as process:

        def verdict() -> dict[str, object]:
            done = user.qtrace("explain", "--json", str(process.pid))
            return json.loads(done.stdout) if done.stdout else {}

        wait_until(lambda: verdict().get("verdict") == "deadlock", 40, "the verdict")
        found = verdict()
    assert found["certainty"] == "proven"
    assert found["unseen"] == []
    assert any(link["python"] for link in found["chain"])  # type: ignore[attr-defined]
    assert any((link["object"] or {}).get("bytes") for link in found["chain"])  # type: ignore[attr-defined]


def test_a_running_program_of_ones_own_is_recorded(user: User) -> None:
    """record -p: attached, recorded, let go; the program does not notice."""
    (user.folder / "times").mkdir()
    (user.folder / "times").chmod(0o777)
    words = user.words(str(PROGRAMS / "numbered_writes.py"), str(user.folder / "times"))
    with running(words, env=_environment(), cwd=user.folder) as process:
        wait_until(lambda: (user.folder / "times" / "1").exists(), what="the program's start")
        done = user.qtrace("record", "-p", str(process.pid), "--duration", "0.5", "-o", "run.qtrace")
        assert done.returncode == 0, done.stderr
        assert process.poll() is None
    with TraceReader(user.folder / "run.qtrace") as reader:
        assert len(reader.calls()) > 100


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a setuid program of root's")
def test_a_setuid_program_gets_its_rights_only_from_a_tracer_with_rights(user: User) -> None:
    """An ordinary tracer must not steer root's program; root may, but for no_new_privs, which the filter needs."""
    source, program = user.folder / "euid.c", user.folder / "euid"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("%d\\n", geteuid()); }\n')
    subprocess.run(["gcc", "-o", program, source], check=True)
    program.chmod(0o4755)
    nobody = f"{pwd.getpwnam('nobody').pw_uid}\n"
    bare = subprocess.run([*_as_nobody(), str(program)], capture_output=True, text=True)
    if bare.stdout != "0\n":
        pytest.skip("setuid programs have no effect on this file system")
    for options in ([], ["--no-seccomp"]):
        assert user.qtrace("record", "-q", "-f", "-o", "run.qtrace", *options, "--", str(program)).stdout == nobody
    by_root = [*_as_nobody(), str(program)]
    recording = str(user.folder / "root.qtrace")
    assert qtrace("record", "-q", "-f", "-o", recording, "--", *by_root).stdout == nobody
    assert qtrace("record", "-q", "-f", "-o", recording, "--no-seccomp", "--", *by_root).stdout == "0\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="root's own process is needed as somebody else's")
def test_other_peoples_programs_are_refused_in_words(user: User) -> None:
    """EPERM comes as a sentence with what to do, exit status 2, and leaves no file."""
    with running(["sleep", "100"]) as process:
        done = user.qtrace("record", "-p", str(process.pid), "-o", "run.qtrace")
        assert done.returncode == 2
        assert "does not permit tracing" in done.stderr
        assert "qtrace doctor" in done.stderr
        words = f"process {process.pid} belongs to user 0, and this is user {pwd.getpwnam('nobody').pw_uid}"
        assert words in done.stderr
        assert "sudo" in done.stderr
        assert not (user.folder / "run.qtrace").exists()
        seen = json.loads(user.qtrace("explain", "--tree", "only", "--json", str(process.pid)).stdout)
    assert [entry["pid"] for entry in seen["unseen"]] == [process.pid]
    assert words in seen["unseen"][0]["why"]
    assert "sudo" in seen["unseen"][0]["why"]
    assert seen["verdict"] not in ("deadlock", "orphaned", "livelock")


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's tests have a second user")
def test_a_process_that_made_itself_unreadable_is_refused_in_words(user: User) -> None:
    """PR_SET_DUMPABLE: record -p and explain say the same, and what lifts it; started by qtrace it is recorded."""
    program = user.folder / "hidden"
    source = "#include <sys/prctl.h>\n#include <unistd.h>\nint main(void) { prctl(PR_SET_DUMPABLE, 0); pause(); }"
    subprocess.run(["gcc", "-x", "c", "-o", program, "-"], input=source, text=True, check=True)
    with running([*_as_nobody(), str(program)]) as process:
        wait_until(lambda: os.stat(f"/proc/{process.pid}/stat").st_uid == 0, what="prctl")
        done = user.qtrace("record", "-p", str(process.pid), "-o", "run.qtrace")
        seen = json.loads(user.qtrace("explain", "--tree", "only", "--json", str(process.pid)).stdout)
    assert done.returncode == 2
    words = f"process {process.pid} has made itself unreadable"
    for said in (done.stderr, seen["unseen"][0]["why"]):
        assert words in said
        assert "sudo" in said
    done = user.qtrace("record", "--timeout", "1", "-o", "run.qtrace", "--", str(program))
    assert done.returncode == 124, done.stderr
    with TraceReader(user.folder / "run.qtrace") as reader:
        assert len(reader.calls()) > 2
        assert reader.gaps() == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="root in a namespace is needed")
def test_root_of_a_namespace_has_no_rights_outside_of_it(tmp_path: Path) -> None:
    """unshare -r: capabilities that do not reach the process; the words say where to start qtrace instead."""
    with running(["sleep", "100"]) as process:
        inside = ["unshare", "-Ur", sys.executable, "-m", "qtrace"]
        if subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode != 0:
            pytest.skip("no user namespaces here")
        pid, output = str(process.pid), str(tmp_path / "run.qtrace")
        explained = subprocess.run([*inside, "explain", "--tree", "only", pid], capture_output=True, text=True)
        refused = subprocess.run([*inside, "record", "-p", pid, "-o", output], capture_output=True, text=True)
    assert refused.returncode == 2
    for said in (refused.stderr, explained.stdout):
        assert f"process {process.pid} is outside of it" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace to be traced by")
def test_under_another_tracer_the_words_say_so(tmp_path: Path) -> None:
    """qtrace under strace: the doctor and record name the tracer that is there already."""
    strace = ["strace", "-f", "-o", os.devnull, sys.executable, "-m", "qtrace"]
    recording = str(tmp_path / "run.qtrace")
    for verb in (["record", "-o", recording, "true"], ["doctor"]):
        done = subprocess.run([*strace, *verb], capture_output=True, text=True, timeout=60)
        assert "this process is traced itself, by process" in done.stdout + done.stderr
        assert done.returncode == (2 if verb[0] == "record" else 1)
    assert list(tmp_path.iterdir()) == []
