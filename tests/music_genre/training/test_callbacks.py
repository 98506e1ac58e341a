"""Signals, the clock and a bad loss, on a Trainer's state without a Trainer."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from music_genre.errors import InputError
from music_genre.training import callbacks
from music_genre.training.callbacks import LoadCheckpoints, SetEpoch, StopEarly, StopOnBadLoss

ARGS = SimpleNamespace(save_strategy="epoch")


@pytest.mark.parametrize(("done", "epoch"), [(0.0, 0), (2.0, 2), (2.4, 2)])
def test_clips_know_the_epoch_from_zero_on_also_when_it_is_resumed_inside(done, epoch):
    clips = SimpleNamespace(epoch=None)
    SetEpoch(clips).on_epoch_begin(ARGS, TrainerState(epoch=done), TrainerControl())
    assert clips.epoch == epoch


def test_the_best_checkpoint_is_taken_from_where_the_run_is_by_now(tmp_path, monkeypatch):
    loaded: list[Path] = []
    monkeypatch.setattr(callbacks, "load_weights", lambda model, folder: loaded.append(folder))
    args = SimpleNamespace(
        output_dir=str(tmp_path), fsdp=None, deepspeed=None, load_best_model_at_end=True
    )
    state = TrainerState(best_global_step=2, best_model_checkpoint="before/checkpoint-2")
    callback = LoadCheckpoints("resumed")
    callback.on_train_begin(args, state, TrainerControl())
    callback.on_train_end(args, state, TrainerControl())
    assert loaded == [Path("resumed"), tmp_path / "checkpoint-2"]


@pytest.mark.parametrize("sharded_by", ["fsdp", "deepspeed"])
def test_weights_that_gpus_share_are_left_to_the_trainer(sharded_by):
    """There is nothing at the path: it is not looked at."""
    args = SimpleNamespace(**{"fsdp": None, "deepspeed": None, sharded_by: "zero3"})
    LoadCheckpoints("nowhere").on_train_begin(args, TrainerState(), TrainerControl())


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
    callback.on_step_end(ARGS, TrainerState(global_step=9, max_steps=9), control)
    assert not callback.is_late, "it was the last step anyway"
    monkeypatch.setattr(callbacks, "in_any_process", lambda *_: [True, False])
    callback.on_step_end(ARGS, TrainerState(epoch=0.5, global_step=3, max_steps=9), control)
    assert callback.asked_by == signal.SIGTERM, "as the process that got it"


@pytest.mark.parametrize("due", ["should_save", "should_evaluate"])
def test_a_bad_loss_ends_the_run_before_it_is_saved(due):
    """What is saved or validated is logged first, with all losses since the last log."""
    callback, control = StopOnBadLoss(), TrainerControl()
    callback.on_step_end(ARGS, TrainerState(), control)
    assert not control.should_log
    setattr(control, due, True)
    callback.on_step_end(ARGS, TrainerState(), control)
    assert control.should_log
    control.should_log = False
    callback.on_epoch_end(ARGS, TrainerState(), control)
    assert control.should_log
    callback.on_log(ARGS, TrainerState(), control, logs={"loss": 0.5})
    callback.on_log(ARGS, TrainerState(), control, logs={"eval_loss": 0.5})
    for loss in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="not a number by step 7"):
            callback.on_log(ARGS, TrainerState(global_step=7), control, logs={"loss": loss})
