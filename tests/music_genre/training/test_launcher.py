"""A run ends when its launcher has ended; test_train_processes.py kills a real one."""

import threading

from music_genre.training import launcher


def test_a_process_that_a_person_started_may_outlive_the_shell(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(threading, "Thread", None)
    launcher.stop_with_launcher()
