"""`qtrace doctor` finds what is forbidden, by trying, and names the setting and the command that lifts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.capture.behaviours import needs_compiler
from tests.support.processes import in_session, qtrace, running

PTRACE, PIDFD_GETFD, PERF_EVENT_OPEN = 101, 438, 298
SANDBOX = Path(__file__).resolve().parent / "programs" / "sandbox.c"
DOCTOR = [sys.executable, "-m", "qtrace", "doctor"]
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the sandbox's numbers are those of x86_64")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled sandbox."""
    target = tmp_path_factory.mktemp("sandbox") / "sandbox"
    subprocess.run(["gcc", "-O1", "-o", target, SANDBOX], check=True)
    return str(target)


def examined(words: list[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the doctor as the words say; return its status and its findings by name."""
    with running([*words, "--json"], stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=60)
        assert in_session(process.pid) == [], "the doctor leaves nobody behind"
    found = json.loads(output)
    assert found["schema"] == "qtrace.doctor/1"
    assert found["able"] == (process.returncode == 0)
    return process.returncode, {finding["name"]: finding for finding in found["findings"]}


def explained(finding: dict[str, Any]) -> bool:
    """Whether a finding says what forbids it and what works without."""
    return not finding["ok"] and bool(finding["blocked_by"]) and bool(finding["without"])


def test_here_all_that_a_recording_needs_works() -> None:
    """Where the other tests of this folder pass, the doctor must not complain."""
    status, found = examined(DOCTOR)
    assert status == 0
    for name in ("trace own programs", "seccomp filter", "attach to running programs", "look at running programs"):
        assert found[name]["ok"], found[name]
    assert found["levels of pipes"]["ok"]


def test_every_finding_that_is_blocked_says_why() -> None:
    """In words as in JSON."""
    _, found = examined(DOCTOR)
    said = qtrace("doctor").stdout
    for name, finding in found.items():
        assert name in said
        assert finding["ok"] or explained(finding)
        assert all(finding[key] in said for key in ("blocked_by", "lift", "without") if finding[key])


@needs_compiler
def test_without_ptrace_nothing_can_be_recorded(sandbox: str) -> None:
    """A sandbox that forbids ptrace: exit status 1, and the reason is the sandbox."""
    status, found = examined([sandbox, str(PTRACE), *DOCTOR])
    assert status == 1
    for name in ("trace own programs", "attach to running programs"):
        assert explained(found[name])
        assert "Operation not permitted" in found[name]["found"]
        assert "seccomp profile" in found[name]["blocked_by"]
    assert not found["seccomp filter"]["ok"]
    assert found["look at running programs"]["ok"]


@needs_compiler
@pytest.mark.parametrize(
    ("forbidden", "name"),
    [(PIDFD_GETFD, "levels of pipes"), (PERF_EVENT_OPEN, "perf engine")],
)
def test_what_is_forbidden_is_found_and_the_rest_works(sandbox: str, forbidden: int, name: str) -> None:
    """Each of these is missed by one feature alone."""
    status, found = examined([sandbox, str(forbidden), *DOCTOR])
    assert status == 0
    assert explained(found[name])
    assert found["trace own programs"]["ok"]


@needs_compiler
def test_a_refused_recording_speaks_like_the_doctor(sandbox: str, tmp_path: Path) -> None:
    """The same words on EPERM, exit status 2, no file, and the program has not run."""
    marker = tmp_path / "marker"
    command = [sandbox, str(PTRACE), sys.executable, "-m", "qtrace", "record", "-o", str(tmp_path / "run.qtrace")]
    done = subprocess.run([*command, "--", "touch", str(marker)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    _, found = examined([sandbox, str(PTRACE), *DOCTOR])
    assert found["trace own programs"]["blocked_by"] in done.stderr
    assert "qtrace doctor" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root can mount tracefs")
def test_the_command_for_perf_lifts_what_blocks_it() -> None:
    """In a mount namespace of its own, without tracefs: what the doctor says to do makes it work."""
    away = "umount -l /sys/kernel/tracing 2>/dev/null"
    _, found = examined(["unshare", "-m", "sh", "-c", f'{away}; exec "$@"', "sh", *DOCTOR])
    finding = found["perf engine"]
    if finding["ok"]:
        pytest.skip("tracefs is mounted elsewhere too")
    assert finding["lift"].startswith("sudo mount -t tracefs")
    lift = finding["lift"].removeprefix("sudo ")
    _, found = examined(["unshare", "-m", "sh", "-c", f'{away}; {lift} && exec "$@"', "sh", *DOCTOR])
    assert found["perf engine"]["ok"], found["perf engine"]
