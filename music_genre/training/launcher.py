"""`accelerate launch`: whether it started this process, and what to do when it ends before it."""

import os
import signal
import threading
import time

INTERVAL = 1.0  # seconds between two looks


def is_launched() -> bool:
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def stop_with_launcher() -> None:
    """Have this process get SIGTERM when `accelerate launch`, which started it, has ended.

    SIGTERM, which a cluster or `timeout` sends, kills `accelerate launch` at once, and the process
    that it started would train on.
    """
    if is_launched():
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
