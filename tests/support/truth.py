"""What a program's header says must be found, how it is asked for, and what is wrong with an answer.

The header line that counts is ``# expect:``, followed by words of the form ``key=value``, with ``|``
between values that are all right, the best first:

    verdict=deadlock|orphaned   the verdict
    pattern=lock-order|-        the known cause; ``-`` where no name at all is right too
    chain=child-exit>lock?>pipe-full
                                kinds of wait along the chain; ``a/b``: either, ``a?``: or none
    pythons=3.9+                the interpreters on which it is so: 3.10, 3.9+, 3.7-3.11 (else every one)
    settle=9                    seconds until it stands (else SETTLE_S)
    stdin=pipe, tty=yes         what its standard input is (else the null device)
    mode=record                 it can be judged only so
    load=yes                    it uses the processor, and is best run alone

A line of the program that ends in ``# link 2`` is where the chain's second thread stands (several
numbers: those threads; -1: the last).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.engines import DEFAULT, command
from tests.support.processes import Outcome, qtrace, running, stat_fields, tree

STUCK = frozenset({"deadlock", "orphaned", "livelock"})
SETTLE_S = 2.5
"""The programs stand within 2 s of their start on a machine that is not busy."""
LOOKS = 3
"""How often a program that should hang is asked: a busy machine may be late with its start."""
MODES = ("pid", "record")


@dataclass(frozen=True)
class Truth:
    """What a program's header states."""

    path: Path
    verdicts: tuple[str, ...]
    patterns: tuple[str, ...]
    chains: tuple[str, ...] = ()
    pythons: str = ""
    settle_s: float = SETTLE_S
    stdin: str = ""
    modes: tuple[str, ...] = MODES
    load: bool = False
    links: Mapping[int, frozenset[int]] | None = None
    """Number of a link of the chain, from 1, to the lines on one of which it stands."""

    @property
    def stuck(self) -> bool:
        """Whether it hangs: the best answer is a verdict of stuck."""
        return self.verdicts[0] in STUCK

    @property
    def must_be_quiet(self) -> bool:
        """Whether every verdict of stuck would be a false alarm."""
        return not STUCK & set(self.verdicts)

    def holds_on(self, version: str) -> bool:
        """Whether the header speaks of this CPython, such as ``3.11``."""
        if not self.pythons:
            return True
        low, _, high = self.pythons.replace("+", "-").partition("-")
        minor = _minor(version)
        if self.pythons == low:
            return minor == _minor(low)
        return _minor(low) <= minor <= (_minor(high) if high else minor)


@dataclass(frozen=True)
class Answer:
    """What qtrace said of one run."""

    verdict: Mapping[str, Any]
    """The JSON object of ``explain``; empty if there was none."""
    status: int
    seconds: float
    ended: int | None = None
    """The status of a program that ended by itself, before it was asked about."""
    said: str = ""
    """Standard error, where it helps."""
    record_status: int | None = None


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def read_truth(path: Path) -> Truth | None:
    """Return what a program's header states, or None for a file without an ``# expect:``."""
    expect: dict[str, str] = {}
    links: dict[int, set[int]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = re.match(r"#\s*expect:\s*(.*)", line)
        if found:
            expect = dict(word.split("=", 1) for word in found.group(1).split())
        mark = re.search(r"# link ((?:-?\d+ ?)+)$", line)
        for link in mark.group(1).split() if mark else ():
            links.setdefault(int(link), set()).add(number)
    if not expect:
        return None
    return Truth(
        path=path,
        verdicts=tuple(expect["verdict"].split("|")),
        patterns=tuple(expect.get("pattern", "-").split("|")),
        chains=tuple(chain for chain in expect.get("chain", "").split("|") if chain),
        pythons=expect.get("pythons", expect.get("python", "")),
        settle_s=float(expect.get("settle", SETTLE_S)),
        stdin="tty" if expect.get("tty") == "yes" else expect.get("stdin", ""),
        modes=(expect["mode"],) if "mode" in expect else MODES,
        load=expect.get("load") == "yes",
        links={number: frozenset(lines) for number, lines in links.items()},
    )


def read_folder(folder: Path) -> list[Truth]:
    """Return what the programs of a folder state, by name."""
    found = (read_truth(path) for path in sorted(folder.glob("*.py")))
    return [truth for truth in found if truth is not None]


def faults(truth: Truth, answer: Answer) -> list[str]:
    """Return what is wrong with an answer, a sentence each; empty if it is right."""
    verdict = answer.verdict
    if not verdict:
        return [f"no answer (status {answer.status}): {answer.said.strip()[-300:]}"]
    found = []
    if verdict["verdict"] not in truth.verdicts:
        found.append(f"verdict {verdict['verdict']}")
    pattern = verdict["pattern"] or "-"
    # Where the header names no cause, one that is found is not wrong for that; a quiet program has none.
    unnamed = truth.patterns == ("-",) and not truth.must_be_quiet
    if pattern not in truth.patterns and not unnamed:
        found.append(f"pattern {pattern}")
    is_stuck = verdict["verdict"] in STUCK
    if answer.status != int(is_stuck):
        found.append(f"exit status {answer.status} of explain")
    if is_stuck and truth.stuck:
        found += _chain_faults(truth, verdict["chain"])
    return found + _contract_faults(verdict)


def _chain_faults(truth: Truth, chain: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = ">".join(link["kind"] for link in chain)
    if truth.chains and not any(re.fullmatch(_chain_expression(text), kinds + ">") for text in truth.chains):
        return [f"chain {kinds}"]
    found = []
    for number, lines in (truth.links or {}).items():
        place = number - 1 if number > 0 else number
        if not -len(chain) <= place < len(chain):
            found.append(f"no link {number} in chain {kinds}")
            continue
        stands = [f["line"] for f in chain[place]["python"] if f["file"].endswith(truth.path.name)]
        if not lines & set(stands):
            found.append(f"link {number} stands at {stands}, not at {sorted(lines)}")
    return found


def _chain_expression(text: str) -> str:
    steps = []
    for step in text.split(">"):
        kinds = "|".join(re.escape(kind) for kind in step.rstrip("?").split("/"))
        steps.append(f"(?:(?:{kinds})>){'?' if step.endswith('?') else ''}")
    return "".join(steps)


def _contract_faults(verdict: Mapping[str, Any]) -> list[str]:
    # What holds of every answer, whatever the program.
    found = []
    chain = verdict["chain"]
    for link, following in itertools.pairwise(chain):
        provider_pids = {provider["pid"] for provider in link["providers"]}
        if following["pid"] not in provider_pids:
            found.append(f"pid {following['pid']} of the chain is no provider of the link before it")
    if verdict["verdict"] in STUCK and not chain:
        found.append("a hang without a chain")
    if verdict["cycle"]:
        last = {provider["pid"] for provider in chain[-1]["providers"]} if chain else set()
        if not last & {link["pid"] for link in chain}:
            found.append("a cycle whose last link waits for nobody in the chain")
    return found


@contextlib.contextmanager
def started(truth: Truth, command: Sequence[str], **options: object) -> Iterator[Any]:
    """Run a command with the program's standard input, in a folder and a session of its own."""
    with tempfile.TemporaryDirectory(prefix="qtrace-program-") as folder, contextlib.ExitStack() as stack:
        settings: dict[str, object] = {"cwd": folder}
        if truth.stdin == "pipe":
            inlet, outlet = os.pipe()
            stack.callback(os.close, outlet)
            settings["stdin"] = inlet
        elif truth.stdin == "tty":
            outlet, inlet = pty.openpty()
            stack.callback(os.close, outlet)
            # The session's first process makes the terminal its own: util-linux' setsid can.
            command = ["setsid", "--ctty", "--wait", *command]
            settings["stdin"] = inlet
        process = stack.enter_context(running(list(command), **(settings | options)))
        if truth.stdin in ("pipe", "tty"):
            os.close(inlet)
        yield process


def wait_until_it_stands(pid: int, settle_s: float) -> None:
    """Return when a tree has had its time, and the same threads stand in the same calls for a moment.

    A tree that never stands still is not waited for much longer.
    """
    end = time.monotonic() + settle_s
    patience = end + 6.0
    before: object = None
    since = time.monotonic()
    while time.monotonic() < patience:
        now = _calls(pid)
        if now != before:
            before, since = now, time.monotonic()
        if time.monotonic() > end and time.monotonic() - since > 0.4:
            return
        time.sleep(0.1)


def _calls(pid: int) -> dict[tuple[int, str], str]:
    found = {}
    for member in tree(pid):
        with contextlib.suppress(OSError):
            for tid in os.listdir(f"/proc/{member}/task"):
                found[member, tid] = Path(f"/proc/{member}/task/{tid}/syscall").read_text()
    return found


def ask_about(pid: int) -> Answer:
    """Return what ``qtrace explain PID`` says of a running program."""
    begin = time.monotonic()
    outcome = qtrace("explain", str(pid), "--json", timeout_s=60.0)
    return _answer(outcome, time.monotonic() - begin)


def _answer(outcome: Outcome, seconds: float, record_status: int | None = None) -> Answer:
    try:
        verdict = json.loads(outcome.stdout)
    except ValueError:
        verdict = {}
    return Answer(verdict, outcome.status, seconds, said=outcome.stderr, record_status=record_status)


def ask_when_it_stands(truth: Truth, process: Any, age_s: float = 0.0) -> Answer:
    """Return what is said of a program, started some time ago, once it stands; again, if it was not yet there."""
    answer = Answer({}, 2, 0.0)
    for look in range(LOOKS if truth.stuck else 1):
        wait_until_it_stands(process.pid, truth.settle_s - age_s if look == 0 else 1.0)
        if process.poll() is not None:
            return Answer({}, 2, 0.0, ended=process.returncode)
        answer = ask_about(_first_process(truth, process.pid))
        if answer.verdict and not faults(truth, answer):
            break
    return answer


def _first_process(truth: Truth, pid: int) -> int:
    # With a terminal of its own the program is the only child of setsid.
    if truth.stdin != "tty":
        return pid
    return next((member for member in tree(pid)[1:] if _parent(member) == pid), pid)


def _parent(pid: int) -> int | None:
    fields = stat_fields(pid)
    return int(fields[1]) if fields else None


def explain_bare(truth: Truth, python: Path) -> Answer:
    """Run a program as a user would, and return what ``qtrace explain PID`` says of it."""
    with started(truth, [str(python), str(truth.path)]) as process:
        return ask_when_it_stands(truth, process)


def explain_recorded(
    truth: Truth, python: Path, hang_after_s: float = 2.0, timeout_s: float | None = None, engine: str = DEFAULT
) -> Answer:
    """Run a program under ``qtrace record``, and return what ``qtrace explain FILE`` says of it.

    Raises:
        subprocess.TimeoutExpired: The recording did not end long after its time; its tree has been killed.
    """
    # A program that hangs ends the recording itself; one that does not is let go on until its time is over.
    timeout_s = timeout_s or (20.0 if truth.stuck else 8.0)
    timeout_s = max(timeout_s, truth.settle_s + 7.0 if truth.settle_s > SETTLE_S else 0.0)
    with tempfile.TemporaryDirectory(prefix="qtrace-recording-") as folder:
        recording = Path(folder, "program.qtrace")
        words = ["record", "-q", "-o", str(recording), "--python", str(python)]
        words += ["--hang-after", f"{hang_after_s:g}", "--timeout", f"{timeout_s:g}", str(truth.path)]
        log = Path(folder, "log")
        with log.open("wb") as errors, started(truth, command(engine, *words), stderr=errors) as process:
            status = process.wait(timeout=timeout_s + 60.0)
        if not recording.exists():
            return Answer({}, 2, 0.0, said=log.read_text(errors="replace"), record_status=status)
        begin = time.monotonic()
        outcome = qtrace("explain", str(recording), "--json", timeout_s=120.0)
        answer = _answer(outcome, time.monotonic() - begin, status)
    if answer.verdict.get("verdict") == "finished":
        return Answer(answer.verdict, answer.status, answer.seconds, ended=status, record_status=status)
    return answer
