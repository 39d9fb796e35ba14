"""What every test process needs before the first test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let the processes that tests start hear Ctrl-C.

    A suite that a script starts in the background inherits an ignored SIGINT and would pass it on.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
