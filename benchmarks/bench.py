"""All figures in one run: engines, scale, explain, queues. Writes reports/bench.md and reports/bench.json.

    python -m benchmarks.bench [--quick]

Each part is a module of its own that prints a Markdown table; this one runs them one after the other, on
a machine that should have nothing else to do, and says which machine it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

REPORTS = Path(__file__).resolve().parent.parent / "reports"
PARTS: tuple[tuple[str, str, list[str], list[str]], ...] = (
    ("engines", "What recording costs, engine by engine, beside strace", [], ["--rounds", "3", "--messages", "5000"]),
    ("costs", "What it costs a program that computes, forks, starts, or fights for the interpreter", [], ["--quick"]),
    ("scale", "Reading, tables, verdict and report, by the number of calls", [], ["1e5", "1e6"]),
    ("memory", "Memory of the tracer", [], ["--calls", "1e6"]),
    ("page", "The page of ten million calls, in Chromium", [], ["1e6"]),
    ("explain", "Explaining a program that hangs right now", [], []),
    ("queue", "Throughput of qtrace.queue beside multiprocessing.Queue", ["--rounds", "5"], ["--rounds", "3"]),
)
"""Module, title, arguments, arguments of a quick run."""


def run(module: str, arguments: list[str]) -> tuple[str, float]:
    """Return what a part prints, and how many seconds it took."""
    begun = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.bench_{module}", *arguments]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return answer.stdout.strip(), time.monotonic() - begun


def rows_of(markdown: str) -> list[dict[str, str]]:
    """Return the rows of the Markdown tables in a text, by the columns' titles."""
    found: list[dict[str, str]] = []
    titles: list[str] = []
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            titles = []
        elif not titles:
            titles = cells
        elif not set("".join(cells)) <= set("-: "):
            found.append(dict(zip(titles, cells, strict=False)))
    return found


def _before() -> tuple[dict[str, object], dict[str, str]]:
    """Return the figures and sections of the last run: a run of some parts leaves the others as they are."""
    try:
        figures: dict[str, object] = json.loads((REPORTS / "bench.json").read_text())
        _, *parts = (REPORTS / "bench.md").read_text().split("\n## ")
    except (OSError, ValueError):
        return {}, {}
    sections = [part.partition("\n") for part in parts]
    return figures, {title: body.rstrip("\n") + "\n" for title, _, body in sections}


def main() -> None:
    """Run the parts and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    parser.add_argument("parts", nargs="*", help="only these parts")
    chosen = parser.parse_args()
    machine = f"Linux {platform.release()}, {os.cpu_count()} CPUs, CPython {platform.python_version()}"
    load = os.getloadavg()[0]
    figures, sections = _before() if chosen.parts else ({}, {})
    figures |= {"machine": machine, "load": load}
    for module, title, full, quick in PARTS:
        if chosen.parts and module not in chosen.parts:
            continue
        print(f"{title} ...", file=sys.stderr, flush=True)
        table, seconds = run(module, quick if chosen.quick else full)
        sections[title] = f"{table}\n\n`python -m benchmarks.bench_{module}`, {seconds:.0f} s.\n"
        figures[module] = rows_of(table)
        _write(machine, load, figures, sections)  # what follows may fail, and this took minutes
    print(REPORTS / "bench.md")


def _write(machine: str, load: float, figures: dict[str, object], sections: dict[str, str]) -> None:
    text = [
        "# Benchmarks",
        f"Made by `make bench` on {machine}; load {load:.1f} before it began. Figures of one run, taken in turns:",
        "ratios hold even where the machine was busy for a while; absolute figures do not.",
        "",
        *(f"## {title}\n{sections[title]}" for _, title, _, _ in PARTS if title in sections),
    ]
    (REPORTS / "bench.md").write_text("\n".join(text))
    (REPORTS / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
