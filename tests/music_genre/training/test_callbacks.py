"""The clock of a run, on a Trainer's state without a Trainer."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from music_genre.training.callbacks import FORECAST_STEPS, OncePerStep, SaveOnSigterm, TimeKeeper

ARGS = SimpleNamespace(
    eval_strategy="epoch", save_strategy="epoch", num_train_epochs=3, device=torch.device("cpu")
)


def steps(keeper: TimeKeeper, n: int, monkeypatch, seconds_a_step: float) -> TrainerControl:
    """Run `n` of 400 steps on a clock of our own; stop when the callback says so."""
    clock = {"now": keeper.started + 10.0}  # ten seconds of loading
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    state = TrainerState(max_steps=400, num_train_epochs=4, is_world_process_zero=True, epoch=0.0)
    control = TrainerControl()
    keeper.on_train_begin(ARGS, state, control)
    for step in range(1, n + 1):
        clock["now"] += seconds_a_step
        state.global_step, state.epoch = step, step / 100
        keeper.on_step_end(ARGS, state, control)
        if control.should_training_stop:
            break
    control.steps = state.global_step
    return control


def test_the_forecast_adds_up(monkeypatch, capsys):
    keeper = TimeKeeper(0.0, None, validation=20.0, scoring=50.0)
    steps(keeper, FORECAST_STEPS[1], monkeypatch, seconds_a_step=1.0)
    # Loading, 400 steps, four validations less the quarter of an epoch that is over, scoring.
    assert keeper.forecast == pytest.approx(10 + 400 + 3.75 * 20 + 50)
    assert f"{keeper.forecast / 60:.1f} minutes" in capsys.readouterr().out


def test_the_forecast_knows_that_crops_repeat_after_two_epochs(monkeypatch):
    keeper = TimeKeeper(0.0, None, validation=20.0, scoring=50.0, known_share=0.5)
    steps(keeper, FORECAST_STEPS[1], monkeypatch, seconds_a_step=1.0)
    assert keeper.forecast == pytest.approx(10 + 200 + 0.5 * 200 + 3.75 * 20 + 50)


def test_the_budget_is_kept_with_room_for_scoring(monkeypatch, capsys):
    keeper = TimeKeeper(0.0, 200.0, validation=20.0, scoring=50.0)
    control = steps(keeper, 400, monkeypatch, seconds_a_step=1.0)
    assert control.should_training_stop
    assert control.should_evaluate
    assert control.should_save
    assert keeper.stopped_early
    assert control.steps == 121  # 10 + 121 + 20 + 50 is the first to be over 200
    assert "of 400 steps fit into the budget" in capsys.readouterr().out


def test_a_run_that_fits_is_left_alone(monkeypatch):
    keeper = TimeKeeper(0.0, 1000.0, validation=20.0, scoring=50.0)
    assert not steps(keeper, 400, monkeypatch, seconds_a_step=1.0).should_training_stop
    assert not keeper.stopped_early


def test_sigterm_is_waited_for_only_while_training():
    before = signal.getsignal(signal.SIGTERM)
    callback, control = SaveOnSigterm(), TrainerControl()
    state = TrainerState(epoch=0.5, global_step=5, max_steps=20)
    callback.on_train_begin(ARGS, state, control)
    callback.on_step_end(ARGS, state, control)
    assert not control.should_training_stop
    os.kill(os.getpid(), signal.SIGTERM)
    callback.on_step_end(ARGS, state, control)
    assert control.should_training_stop
    assert control.should_save
    callback.on_train_end(ARGS, state, control)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_step_is_validated_and_saved_once():
    callback, state = OncePerStep(), TrainerState(global_step=5)
    callback.on_evaluate(ARGS, state, TrainerControl())
    callback.on_save(ARGS, state, TrainerControl())
    for step, again in ((5, False), (6, True)):
        control = TrainerControl(should_evaluate=True, should_save=True)
        callback.on_epoch_end(ARGS, TrainerState(global_step=step), control)
        assert control.should_evaluate == control.should_save == again
