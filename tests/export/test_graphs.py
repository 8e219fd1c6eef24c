"""The wait-for graph for Graphviz and Mermaid."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from qtrace import pipeline
from qtrace.export.graphs import dot_text, mermaid_text


def test_dot_has_the_circle_of_the_verdict(hung: Path) -> None:
    """From each link's thread over what it waits on to the next one, and back to the first."""
    verdict = pipeline.explain(hung)
    text = dot_text(verdict)
    bold = re.findall(r"^    (\w+) -> (\w+) \[label=\"([^\"]*)\", style=bold", text, re.MULTILINE)
    following = {source: (target, label) for source, target, label in bold}
    assert len(following) == len(bold) == 6
    here, seen, kinds = f"t{verdict.chain[0].tid}", [], []
    for _ in range(3):
        thing, kind = following[here]
        seen.append(here)
        kinds.append(kind)
        here, empty = following[thing]
        assert empty == ""
    assert here == seen[0]
    assert seen == [f"t{wait.tid}" for wait in verdict.chain]
    assert kinds == [str(wait.kind) for wait in verdict.chain]
    assert "61,500 of 65,536 bytes" in text


def test_mermaid_has_the_same_nodes_and_arrows(hung: Path) -> None:
    """Both are drawn from one graph."""
    verdict = pipeline.explain(hung)
    dot, mermaid = dot_text(verdict), mermaid_text(verdict)
    assert set(re.findall(r"^    (\w+)[\[(]", mermaid, re.MULTILINE)) == set(
        re.findall(r"^    (\w+) \[", dot, re.MULTILINE)
    ) - {"label"}
    arrows = re.findall(r"^    (\w+) (?:==>|-->)(?:\|[^|]*\|)? (\w+)$", mermaid, re.MULTILINE)
    assert set(arrows) == set(re.findall(r"^    (\w+) -> (\w+)", dot, re.MULTILINE))
    assert mermaid.count("==>") == 6
    assert mermaid.splitlines()[3] == "flowchart LR"


def test_text_of_the_program_is_escaped(hung: Path) -> None:
    """Names can hold anything: quotes and brackets must not end a label, or begin markup."""
    verdict = pipeline.explain(hung)
    wait = replace(verdict.waits[0], thread='a"];<script>|x\\', process="é\n]")
    hostile = replace(verdict, waits=(wait, *verdict.waits[1:]), headline='say "no": <b>')
    mermaid, dot = mermaid_text(hostile), dot_text(hostile)
    assert "<script>" not in mermaid
    assert "a#34;]#59;#60;script#62;|x\\" in mermaid
    assert 'title: "say \\"no\\": <b>"' in mermaid
    assert 'a\\"];<script>|x\\\\\\n' in dot
    assert all(line.count('"') % 2 == 0 for line in dot.replace("\\\\", "").replace('\\"', "").splitlines())


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_it(hung: Path) -> None:
    """The reader that the text is for takes it."""
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input=dot_text(pipeline.explain(hung)), capture_output=True, text=True, check=True
    )
    assert drawn.stdout.count('class="node"') >= 6
