"""Detect `accelerate launch`, and stop this process when the launcher ends first."""

import os
import signal
import threading
import time

INTERVAL = 1.0  # seconds between two checks


def is_launched() -> bool:
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def stop_with_launcher() -> None:
    """Send this process SIGTERM when the `accelerate launch` that started it has ended.

    A SIGTERM from a cluster or `timeout` kills `accelerate launch` immediately, and the process
    that it started would go on training.
    """
    if is_launched():
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
