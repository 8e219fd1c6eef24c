"""Judge qtrace on programs that hang, or only look so, and whose headers state the truth.

Each program is run under every CPython of this machine on which its header holds, bare (and
``qtrace explain PID`` asked) and under ``qtrace record`` (and ``qtrace explain FILE`` asked). An
answer is right if verdict, pattern and chain are as the header states (tests/support/truth.py).
Writes a table, the share that is right, and each miss, to reports/zoo.md; exits with 1 below the
share that is asked for, or on a single false alarm.

All of it takes more than an hour; ``--runs FILE`` keeps each answer, so that it can be made in parts
(``--python 3.8``, then the rest) and only what is not in the file yet is run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.pythons import found_pythons  # noqa: E402
from tests.support.truth import (  # noqa: E402
    MODES,
    STUCK,
    Answer,
    Truth,
    explain_bare,
    explain_recorded,
    faults,
    read_folder,
    read_truth,
)

RIGHT_SHARE = 0.95


@dataclass(frozen=True)
class Run:
    """One program under one CPython in one mode, and what was wrong with the answer."""

    truth: Truth
    version: str
    mode: str
    answer: Answer
    faults: tuple[str, ...]

    @property
    def applies(self) -> bool:
        """Whether the program was there to be judged: it did not end by itself before."""
        return self.answer.ended is None

    @property
    def false_alarm(self) -> bool:
        """Whether a program that is not stuck was called so."""
        return self.truth.must_be_quiet and self.answer.verdict.get("verdict") in STUCK

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from other runs."""
        return str(self.truth.path), self.version, self.mode

    def as_json(self) -> str:
        """Return it as a line of JSON, with what the report says of the answer."""
        kept = {name: self.answer.verdict.get(name) for name in ("verdict", "pattern", "certainty", "headline")}
        return json.dumps({"run": self.key, "answer": kept, "ended": self.answer.ended, "faults": self.faults})

    def sentence(self) -> str:
        """Return the miss as a line of the report."""
        said = self.answer.verdict
        answer = f"{said.get('verdict')}/{said.get('pattern') or '-'} ({said.get('certainty')}): {said.get('headline')}"
        return f"`{self.truth.path.name}` {self.version} {self.mode}: {'; '.join(self.faults)}. Said: {answer}"


def run_one(truth: Truth, version: str, python: Path, mode: str) -> Run:
    """Run a program once and judge the answer."""
    try:
        answer = explain_bare(truth, python) if mode == "pid" else explain_recorded(truth, python)
    except subprocess.TimeoutExpired as error:
        answer = Answer({}, 2, float(error.timeout), said=f"no end after {error.timeout} s: {error.cmd[:6]}")
    run = Run(truth, version, mode, answer, tuple(faults(truth, answer)) if answer.ended is None else ())
    state = "ended" if not run.applies else "ALARM" if run.false_alarm else "miss" if run.faults else "right"
    found = answer.verdict.get("verdict", "-"), answer.verdict.get("pattern") or "-"
    print(f"{state:6} {version:5} {mode:7} {truth.path.name:42} {'/'.join(found)}  {'; '.join(run.faults)}", flush=True)
    return run


def kept_runs(path: Path | None, truths: Iterable[Truth]) -> dict[tuple[str, str, str], Run]:
    """Return the runs of these programs that an earlier part left in a file; of two the later one."""
    by_path = {str(truth.path): truth for truth in truths}
    runs = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ():
        entry = json.loads(line)
        program, version, mode = entry["run"]
        if program in by_path:
            answer = Answer(entry["answer"], 0, 0.0, ended=entry["ended"])
            runs[program, version, mode] = Run(by_path[program], version, mode, answer, tuple(entry["faults"]))
    return runs


def table(runs: Iterable[Run]) -> list[str]:
    """Return the report's table: a program a row, with how many of its runs were right in each mode."""
    by_program: dict[Path, list[Run]] = defaultdict(list)
    for run in runs:
        by_program[run.truth.path].append(run)
    lines = ["| program | verdict | pattern | pid | record | CPython |", "|---|---|---|---|---|---|"]
    for path, group in sorted(by_program.items()):
        truth = group[0].truth
        cells = [_share([run for run in group if run.mode == mode and run.applies]) for mode in MODES]
        versions = sorted({run.version for run in group if run.applies}, key=lambda text: int(text.split(".")[1]))
        words = ["\\|".join(truth.verdicts), "\\|".join(truth.patterns), *cells, " ".join(versions)]
        lines.append(f"| {path.parent.name}/{path.stem} | {' | '.join(words)} |")
    return lines


def _share(runs: list[Run]) -> str:
    return f"{sum(not run.faults for run in runs)}/{len(runs)}" if runs else ""


def report(runs: list[Run], skipped: list[str]) -> str:
    """Return the whole report as Markdown."""
    judged = [run for run in runs if run.applies]
    alarms = [run for run in judged if run.false_alarm]
    misses = [run for run in judged if run.faults]
    lines = ["# Programs whose truth is known", ""]
    for mode in MODES:
        of_mode = [run for run in judged if run.mode == mode]
        if of_mode:
            lines.append(f"- {mode}: {_words(of_mode)}")
    lines += [f"- together: {_words(judged)}", ""]
    lines += [
        "Right means: verdict, pattern and chain as the program's header states. A number in the table is",
        "runs that are right of all runs in that mode, one under each CPython.",
        "",
        *table(runs),
    ]
    for title, group in (("False alarms", alarms), ("Misses", [run for run in misses if not run.false_alarm])):
        lines += ["", f"## {title}", "", *([f"- {run.sentence()}" for run in group] or ["None."])]
    ended = [run for run in runs if not run.applies]
    notes = [f"`{r.truth.path.name}` {r.version} {r.mode}: ended by itself with {r.answer.ended}" for r in ended]
    if notes or skipped:
        lines += ["", "## Not judged", "", *(f"- {note}" for note in (*notes, *skipped))]
    return "\n".join(lines) + "\n"


def _words(runs: list[Run]) -> str:
    stuck = [run for run in runs if not run.truth.must_be_quiet]
    quiet = [run for run in runs if run.truth.must_be_quiet]
    right = sum(not run.faults for run in runs)
    return (
        f"{right} of {len(runs)} runs right ({right / max(1, len(runs)):.1%}); hangs {_share(stuck) or '0/0'}, "
        f"not stuck {_share(quiet) or '0/0'}, false alarms {sum(run.false_alarm for run in runs)}"
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", type=Path, help="folders of programs, or programs")
    parser.add_argument("--python", action="append", default=[], help="3.11, newest, or a path; may be repeated")
    parser.add_argument("--mode", choices=[*MODES, "both"], default="both")
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time")
    parser.add_argument("--runs", type=Path, help="keep the answers in this file, and take those that it has")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "reports" / "zoo.md")
    return parser.parse_args(arguments)


def interpreters(asked: list[str]) -> dict[str, Path]:
    """Return version and path of the interpreters to judge on.

    Raises:
        SystemExit: One that was asked for is not on this machine.
    """
    found = found_pythons()
    if not asked:
        return found
    chosen = {}
    for name in asked:
        version = max(found, key=lambda text: int(text.split(".")[1])) if name == "newest" else name
        if version in found:
            chosen[version] = found[version]
        elif Path(name).exists():
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            version = subprocess.run([name, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            chosen[version] = Path(name)
        else:
            raise SystemExit(f"no CPython {name} here; found {', '.join(found)}")
    return chosen


Job = tuple[Truth, str, Path, str]


def run_all(plan: list[Job], jobs: int, keep: Path | None) -> list[Run]:
    """Run what is planned and not kept from an earlier part; return these and those that were kept."""
    done = kept_runs(keep, [truth for truth, *_ in plan])
    missing = [job for job in plan if (str(job[0].path), job[1], job[3]) not in done]

    def run_and_keep(job: Job) -> Run:
        run = run_one(*job)
        if keep:
            with keep.open("a", encoding="utf-8") as file:
                file.write(run.as_json() + "\n")
        return run

    # Those that use the processor come last and one at a time: they would slow the others' start.
    with ThreadPoolExecutor(jobs) as executor:
        runs = list(executor.map(run_and_keep, [job for job in missing if not job[0].load]))
    runs += [run_and_keep(job) for job in missing if job[0].load]
    return [*done.values(), *runs]


def main() -> int:
    """Judge, write the report, and return the exit status."""
    options = parse()
    truths: list[Truth] = []
    for path in options.programs:
        truths += read_folder(path.resolve()) if path.is_dir() else filter(None, [read_truth(path.resolve())])
    if not truths:
        raise SystemExit("no program with an `# expect:` line")
    pythons = interpreters(options.python)
    plan: list[Job] = []
    skipped = []
    for truth in truths:
        versions = [version for version in pythons if truth.holds_on(version)]
        if not versions:
            skipped.append(f"`{truth.path.name}`: holds on CPython {truth.pythons}, which was not run")
        modes = [mode for mode in truth.modes if options.mode in (mode, "both")]
        plan += [(truth, version, pythons[version], mode) for version in versions for mode in modes]
    runs = run_all(plan, options.jobs, options.runs)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(report(runs, skipped), encoding="utf-8")
    judged = [run for run in runs if run.applies]
    share = sum(not run.faults for run in judged) / max(1, len(judged))
    alarms = sum(run.false_alarm for run in judged)
    print(f"{share:.1%} of {len(judged)} runs right, {alarms} false alarms: {options.output}")
    return int(not judged or share < RIGHT_SHARE or alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
