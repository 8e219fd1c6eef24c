"""What every test can rely on, wherever the suite is started from."""

from __future__ import annotations

import signal

from hypothesis import settings

# An example takes as long as the machine lets it.
settings.register_profile("qtrace", deadline=None)
settings.load_profile("qtrace")

# A shell without job control starts its background jobs with SIGINT ignored, and nohup ignores SIGHUP.
# Programs under test would inherit that, and behave, rightly, otherwise than at a terminal.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
