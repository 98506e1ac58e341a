"""Signals, the clock and a bad loss, on a Trainer's state without a Trainer."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from music_genre.errors import InputError
from music_genre.training.callbacks import (
    LoadCheckpoints,
    SetEpoch,
    StopEarly,
    StopOnBadLoss,
)

ARGS = SimpleNamespace(save_strategy="epoch")


@pytest.mark.parametrize(("done", "epoch"), [(0.0, 0), (2.0, 2), (2.4, 2)])
def test_clips_know_the_epoch_from_zero_on_also_when_it_is_resumed_inside(done, epoch):
    clips = SimpleNamespace(epoch=None)
    SetEpoch(clips).on_epoch_begin(ARGS, TrainerState(epoch=done), TrainerControl())
    assert clips.epoch == epoch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_only_while_training(number):
    before = signal.getsignal(number)
    callback, control = StopEarly(), TrainerControl()
    state = TrainerState(epoch=0.5, global_step=5, max_steps=20)
    callback.on_train_begin(ARGS, state, control)
    callback.on_step_end(ARGS, state, control)
    assert not control.should_training_stop
    os.kill(os.getpid(), number)
    callback.on_step_end(ARGS, state, control)
    assert control.should_training_stop
    assert control.should_save
    assert callback.asked_by == number
    os.kill(os.getpid(), signal.SIGTERM)  # as a launcher sends it that was stopped, too
    assert callback.asked_by == number
    callback.on_train_end(ARGS, state, control)
    assert signal.getsignal(number) == before


def test_who_presses_ctrl_c_again_does_not_wait():
    callback = StopEarly()
    callback.on_train_begin(ARGS, TrainerState(), TrainerControl())
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    callback.on_train_end(ARGS, TrainerState(), TrainerControl())


def test_training_stops_at_its_time(monkeypatch):
    callback, control = StopEarly(100.0), TrainerControl()
    for now, stops in ((99.0, False), (101.0, True)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        callback.on_step_end(ARGS, TrainerState(global_step=3, max_steps=9), control)
        assert control.should_training_stop == callback.is_late == stops


@pytest.mark.parametrize("due", ["should_log", "should_save", "should_evaluate"])
def test_a_bad_loss_is_not_logged_or_saved(due):
    """The step in which it happened may lie before the one that is logged."""
    loss = SimpleNamespace(is_finite=torch.tensor(False))
    callback, state = StopOnBadLoss(loss), TrainerState(global_step=7)
    callback.on_step_end(ARGS, state, TrainerControl())
    with pytest.raises(InputError, match="not a number by step 7"):
        callback.on_step_end(ARGS, state, TrainerControl(**{due: True}))
    with pytest.raises(InputError, match="not a number"):
        callback.on_epoch_end(ARGS, state, TrainerControl())


@pytest.mark.parametrize(("here", "there"), [(True, True), (False, True), (False, False)])
def test_the_best_checkpoint_is_this_runs(here, there, tmp_path, monkeypatch, capsys):
    """After a copy or a move, another run may be at the path that the Trainer noted."""
    monkeypatch.setattr("music_genre.training.callbacks.load_weights", lambda *_: None)
    for folder, is_there in (("here", here), ("there", there), ("noted", True)):
        if is_there:
            (tmp_path / folder / "checkpoint-2").mkdir(parents=True)
    args = SimpleNamespace(output_dir=str(tmp_path / "here"), fsdp=None, deepspeed=None)
    state = TrainerState(best_global_step=2, best_metric=0.5)
    state.best_model_checkpoint = str(tmp_path / "noted" / "checkpoint-2")
    callback = LoadCheckpoints(str(tmp_path / "there" / "checkpoint-4"))
    callback.on_train_begin(args, state, TrainerControl())
    if here or there:
        expected = tmp_path / ("here" if here else "there") / "checkpoint-2"
        assert state.best_model_checkpoint == str(expected)
    else:
        assert state.best_model_checkpoint is state.best_metric is None
        assert "is gone: only later ones compete" in capsys.readouterr().out
