"""Who waits for whom, and why: tracing and explaining Python multiprocessing on Linux.

Importing this package imports nothing else, so that `qtrace.queue` works on Python 3.8 with the
standard library alone; `qtrace.load` and its kin bring in what they need at first use.
"""

__all__ = ["explain", "load", "record", "report"]


def __getattr__(name):  # type: ignore[no-untyped-def]
    if name in __all__:
        from qtrace import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'qtrace' has no attribute {name!r}")
