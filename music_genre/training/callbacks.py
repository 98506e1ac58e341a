"""What happens beside the steps of training: new crops each epoch, forecast, budget, SIGTERM."""

import signal
import time
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from music_genre.training.trainer import CropDataset

FORECAST_STEPS = (5, 25)  # the first steps are slower: memory is set up, kernels are chosen


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Processes that stopped at different steps would wait for each other for ever."""
    if not torch.distributed.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags)


class SetEpoch(TrainerCallback):
    """Tell the training clips which epoch it is (Accelerate does so with one process only)."""

    def __init__(self, clips: "CropDataset") -> None:
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.clips.epoch = int(state.epoch)


class SaveOnSigterm(TrainerCallback):
    """SIGTERM ends the run after the step that is under way, with a checkpoint.

    transformers' `enable_jit_checkpoint` does so between a step's gradient and its update; that
    checkpoint goes on with another step than the run that was stopped.
    """

    def __init__(self) -> None:
        self.is_asked = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, signum, frame) -> None:
        self.is_asked = True

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.is_asked = in_any_process(self.is_asked, args.device)
        if self.is_asked:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs) -> None:
        signal.signal(signal.SIGTERM, self.before)


class TimeKeeper(TrainerCallback):
    """Forecast how long the run takes, and stop training so that all of it fits its budget.

    Args:
        started: `time.monotonic()` when the run began; loading counts.
        budget: seconds for the whole run with its scoring, or None.
        validation, scoring: seconds that one validation, and scoring at the end, will take.
    """

    def __init__(
        self, started: float, budget: float | None, validation: float, scoring: float
    ) -> None:
        self.started, self.budget = started, budget
        self.validation, self.scoring = validation, scoring
        self.forecast: float | None = None  # seconds, of the whole run
        self.stopped_early = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.first_step = state.global_step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        now, done = time.monotonic(), state.global_step - self.first_step
        if done == FORECAST_STEPS[0]:
            self.since = now
        elif done == FORECAST_STEPS[1]:
            step = (now - self.since) / (FORECAST_STEPS[1] - FORECAST_STEPS[0])
            self._print_forecast(args, state, now - self.started, step)
        if not self.budget:
            return
        is_over = now - self.started + self.validation + self.scoring > self.budget
        if in_any_process(is_over, args.device):
            self.stopped_early = state.global_step < state.max_steps
            control.should_evaluate = control.should_save = control.should_training_stop = True

    def _print_forecast(self, args, state, elapsed: float, step: float) -> None:
        left = state.max_steps - state.global_step
        every = state.eval_steps if args.eval_strategy == "steps" else 0
        n_validations = left / every if every else state.num_train_epochs - (state.epoch or 0)
        training = left * step + n_validations * self.validation
        self.forecast = elapsed + training + self.scoring
        if not state.is_world_process_zero:
            return
        print(f"Forecast: {self.forecast / 60:.1f} minutes for the whole run.")
        if self.budget and self.forecast > self.budget:
            share = max(0.0, (self.budget - elapsed - self.scoring) / training)
            n_steps = state.global_step + int(share * left)
            print(
                f"Only about {n_steps} of {state.max_steps} steps fit into the budget: the run "
                f"will stop there. With --max_steps {n_steps} its learning rate runs out in time."
            )
