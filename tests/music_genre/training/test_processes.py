"""Work that processes and workers share, and what a run says of its time and its end."""

import errno
import itertools
import os
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from music_genre.errors import InputError
from music_genre.training import failures, processes
from music_genre.training.clock import Clock
from music_genre.training.processes import in_any_process, shared


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_load_and_this_process_computes(num_workers, monkeypatch):
    """In the order of the tracks, each once, in whichever order processes give them."""
    monkeypatch.setattr(processes, "gather_object", lambda found: [*found[::-1], found[0]])
    arguments = TrainingArguments(
        use_cpu=True, disable_tqdm=True, dataloader_num_workers=num_workers
    )

    def load(i: int) -> tuple[int, int]:
        return i, os.getpid()

    def compute(loaded: tuple[int, int]) -> tuple[int, bool]:
        i, loader = loaded
        return i * i, loader == os.getpid()

    before = torch.get_rng_state()
    found = shared(5, load, compute, "Squares", arguments)
    assert torch.equal(torch.get_rng_state(), before), "of training"
    assert found == [(i * i, num_workers == 0) for i in range(5)]


def test_each_flag_is_answered(monkeypatch):
    assert in_any_process(True, False) == [True, False]
    two = SimpleNamespace(num_processes=2, device="cpu")
    monkeypatch.setattr(processes, "PartialState", lambda: two)
    monkeypatch.setattr(processes, "reduce", lambda flags, _: flags + torch.tensor([0.0, 1, 0]))
    assert in_any_process(True, False, False) == [True, True, False], "one process is enough"


def test_the_clock_counts_each_stage(monkeypatch):
    monkeypatch.setattr("time.monotonic", itertools.count().__next__)
    clock = Clock()
    for _ in range(2):
        with clock.stage("scoring"):
            pass
    assert clock.describe() == "Seconds: scoring 2.0; the whole run 5.0."


def test_a_full_disk_is_seen_through_the_error_of_a_library(tmp_path, monkeypatch):
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert failures.is_disk_full(OSError(number, os.strerror(number)), tmp_path)
    hidden = RuntimeError("failed writing file data/7")
    assert not failures.is_disk_full(hidden, tmp_path / "not" / "there")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**10))
    with pytest.raises(InputError, match="The disk is full"), failures.explain_failures(None):
        raise hidden


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyError), failures.explain_failures(None):
        raise KeyError("genre")
    with pytest.raises(InputError, match="halve --per_device"), failures.explain_failures(None):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(InputError, match="No module"), failures.explain_failures(None):
        raise ImportError("No module named bitsandbytes")
