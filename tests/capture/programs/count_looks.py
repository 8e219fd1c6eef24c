"""Records a program as `qtrace record` does, and prints how often it was judged."""

import os
import sys
from pathlib import Path

from qtrace.capture.launch import Program
from qtrace.capture.recorder import RecordOptions, record
from qtrace.pipeline import _judged

judged = []


def judge(snapshot):
    judged.append(snapshot)
    return _judged(snapshot)


path, engine, *argv = sys.argv[1:]
options = RecordOptions(Path(path), hang_after_ns=1_000_000_000, engine=engine)
record(Program(os.path.realpath(argv[0]), tuple(argv)), options, judge, lambda verdict, ends: None)
print(len(judged))
