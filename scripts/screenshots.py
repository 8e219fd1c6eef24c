"""Take the pictures of the gallery: each report of a folder, wide and narrow, light and dark.

    python scripts/screenshots.py [--large] [--out FOLDER] [REPORT.html ...]

Without reports named, those of ``reports/``. ``--large`` adds a page of ten million calls, made up,
and prints how long it took to build and to show.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.browser import browser, missing  # noqa: E402

WIDE, NARROW = 1440, 400
LARGE_CALLS = 10_000_000
LARGE_WORKERS = 24


def _large(folder: Path) -> Path:
    from qtrace.render.report import render_report
    from tests.render.inputs import finished

    made = finished(LARGE_CALLS, LARGE_WORKERS)
    begin = time.monotonic()
    page = render_report(made)
    path = folder / "ten_million_calls.html"
    path.write_text(page, encoding="utf-8")
    size = path.stat().st_size / 1e6
    print(f"{len(made.calls):,} calls: built in {time.monotonic() - begin:.1f} s, {size:.1f} MB")
    return path


def _take(reports: list[Path], out: Path) -> list[str]:
    complaints = []
    for dark in (False, True):
        with browser(dark) as page:
            for report in reports:
                for width in (WIDE,) if dark else (WIDE, NARROW):
                    page.resize(width)
                    page.open(report)
                    name = f"{report.stem}{'-dark' if dark else ''}{'-narrow' if width == NARROW else ''}.png"
                    page.picture(out / name)
                    shown = page.run("return Q.firstPicture") / 1000
                    print(f"{out / name}: first picture after {shown:.1f} s")
                    complaints += [f"{name}: {text}" for text in (*page.console(), *page.requests(), *page.overflow())]
    return complaints


def main() -> int:
    """Take the pictures; the exit status is 1 if a page had anything to complain about."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path)
    parser.add_argument("--large", action="store_true", help="also a page of ten million calls")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "pictures")
    options = parser.parse_args()
    if missing():
        print(f"cannot take pictures: {missing()}", file=sys.stderr)
        return 2
    reports = options.reports or sorted((ROOT / "reports").glob("*.html"))
    with tempfile.TemporaryDirectory() as folder:
        if options.large:
            reports = [*reports, _large(Path(folder))]
        if not reports:
            print("no report to take a picture of: run `make demo` first", file=sys.stderr)
            return 2
        complaints = _take(reports, options.out)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
