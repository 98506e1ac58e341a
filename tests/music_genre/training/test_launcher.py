"""A run ends when its launcher has ended; test_train_processes.py kills a real one."""

import os
import signal
import threading

import pytest

from music_genre.training import launcher


@pytest.fixture
def signals(monkeypatch) -> list[int]:
    """Those that this process would get."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append(number))
    monkeypatch.setattr(launcher, "INTERVAL", 0.01)
    return sent


def watching() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if getattr(t, "_target", None) is launcher._watch]


def test_a_process_that_lost_its_launcher_gets_sigterm(signals, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    launcher.stop_with_launcher()
    (thread,) = watching()
    thread.join(0.1)
    assert not signals
    monkeypatch.setattr(os, "getppid", lambda: 1)
    thread.join(60)
    assert signals == [signal.SIGTERM]


def test_a_process_that_a_person_started_may_outlive_the_shell(signals, monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    launcher.stop_with_launcher()
    assert not watching()
