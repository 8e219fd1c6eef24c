"""`qtrace doctor`: what this machine permits, which setting blocks what, and the command that lifts it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrace import pipeline
from qtrace.cli.terminal import colour_of

if TYPE_CHECKING:
    from qtrace.pipeline import Finding

SCHEMA = "qtrace.doctor/1"
_NAME_COLUMNS = 27


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (schema qtrace.doctor/1).")] = False,
) -> None:
    """Test what this machine permits, and say which setting blocks what.

    Everything is tried for a moment, on processes of its own; nothing is changed.
    Exit status: 0 programs can be recorded here, 1 they cannot.
    """
    findings = pipeline.doctor()
    able = all(finding.ok for finding in findings if finding.needed)
    if as_json:
        print(json.dumps({"schema": SCHEMA, "able": able, "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings, able)
    raise typer.Exit(0 if able else 1)


def _show(findings: list[Finding], able: bool) -> None:
    paint = _painted if colour_of(sys.stdout) else _plain
    for finding in findings:
        mark = paint("ok     ", "32") if finding.ok else paint("blocked", "31" if finding.needed else "33")
        print(f"{mark}  {finding.name:<{_NAME_COLUMNS}}{finding.found}")
        for word, text in (("why", finding.blocked_by), ("lift it", finding.lift), ("without", finding.without)):
            if text and not finding.ok:
                print(f"           {word + ':':<9}{text}")
    blocked = sum(not finding.ok for finding in findings)
    print()
    if not able:
        print("Programs cannot be recorded here. Recordings from elsewhere can be read: qtrace report FILE")
    elif blocked:
        print(f"Programs can be recorded here, without what is blocked: {blocked} of {len(findings)}.")
    else:
        print("All that qtrace uses works here.")


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _plain(text: str, code: str) -> str:
    return text
