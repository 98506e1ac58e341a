"""The hardware that a report and a card name."""

import torch

from music_genre.evaluation.environment import hardware


def test_what_computed_is_named_and_not_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"a GPU ({device})")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert hardware(torch.device("cuda", 1), 2) == "2 x a GPU (cuda:1)"
    assert hardware(torch.device("cpu")).startswith(f"{torch.get_num_threads()} cores of ")
    assert hardware(torch.device("mps")) == "an Apple GPU"
    assert hardware().startswith("1 x a GPU")
