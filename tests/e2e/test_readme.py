"""What the README shows in Python runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
PROGRAM = """
import multiprocessing as mp

def produce(queue):
    for number in range(20):
        queue.put(bytes(1000))

if __name__ == "__main__":
    queue = mp.Queue()
    producer = mp.Process(target=produce, args=(queue,))
    producer.start()
    print(sum(len(queue.get()) for _ in range(20)))
    producer.join()
"""


def test_the_example_in_python_runs(tmp_path: Path) -> None:
    """Record, load, look at the tables, write the page: with names as plain text."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "20000" in done.stdout
    assert "app.py" in done.stdout, "the verdict's headline names the program"
    assert (tmp_path / "app.html").read_text().startswith("<!")
