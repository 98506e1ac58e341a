"""What to do when the launcher of a run ends before it."""

import os
import signal
import threading
import time

INTERVAL = 1.0  # seconds between two looks


def stop_with_launcher() -> None:
    """Have this process get SIGTERM when `accelerate launch`, which started it, has ended.

    SIGTERM, which a cluster or `timeout` sends, kills `accelerate launch` at once, and the process
    that it started would train on.
    """
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
