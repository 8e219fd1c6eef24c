"""In a notebook, verdicts and recordings show themselves."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from qtrace import pipeline


class _Text(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_verdict_shows_headline_chain_and_advice(hung: Path) -> None:
    """One item for each link, with its call and its line of Python."""
    verdict = pipeline.explain(hung)
    shown = _Text(verdict._repr_html_())
    assert shown.open == []
    assert shown.tags.count("li") == len(verdict.chain) == 3
    for text in (verdict.headline, verdict.advice, "a circle", *(link.call_text for link in verdict.chain)):
        assert text is not None
        assert text in shown.text
    assert "p.join()" in shown.text, "the program's own line, not that of the library below it"
    assert "The last waits for number 1" in shown.text


def test_a_recording_shows_what_it_holds_and_names_are_escaped(finished: Path) -> None:
    """The script's name has markup in it."""
    trace = pipeline.load(finished)
    shown = _Text(trace._repr_html_())
    assert shown.open == []
    assert set(shown.tags) <= {"p", "b", "ol", "li", "br", "code"}
    assert f"{len(trace.calls):,} calls, 2 processes" in shown.text
    assert 'moves <b>&"things".py' in trace.processes["name"].tolist()
    trace.name = '<script>alert("x")</script>'
    assert "<script" not in trace._repr_html_()
