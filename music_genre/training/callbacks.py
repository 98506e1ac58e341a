"""What happens beside the steps of training: new crops each epoch, forecast, budget, SIGTERM."""

import signal
import time
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import ProgressCallback, TrainerCallback
from transformers.trainer_utils import SaveStrategy

from music_genre.training.clips import CropDataset
from music_genre.training.feature_store import N_NEW_EPOCHS

FORECAST_STEPS = (5, 25)  # the first steps are slower: memory is set up, kernels are chosen


def in_any_process(flag: bool) -> bool:
    """Processes that stop at different steps would wait for each other for ever."""
    if PartialState().num_processes == 1:
        return flag
    return bool(reduce(torch.tensor(float(flag), device=PartialState().device), "sum"))


class SetEpoch(TrainerCallback):
    """Tell the training clips which epoch it is (Accelerate does so with one process only)."""

    def __init__(self, clips: CropDataset) -> None:
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.clips.epoch = int(state.epoch)


class NamedProgress(ProgressCallback):
    """transformers' progress bars, which have no names."""

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description("Fine-tuning")

    def on_prediction_step(self, args, state, control, **kwargs) -> None:
        super().on_prediction_step(args, state, control, **kwargs)
        if self.prediction_bar is not None:
            self.prediction_bar.set_description("Scoring")


class OncePerStep(TrainerCallback):
    """What was validated or saved at the end of a step is not again at the end of its epoch."""

    def __init__(self) -> None:
        self.validated = self.saved = -1

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self.validated = state.global_step

    def on_save(self, args, state, control, **kwargs) -> None:
        self.saved = state.global_step

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        control.should_evaluate &= self.validated != state.global_step
        control.should_save &= self.saved != state.global_step


class SaveOnSigterm(TrainerCallback):
    """SIGTERM ends the run after the current step, with a checkpoint.

    transformers' `enable_jit_checkpoint` saves between a step's gradient and its update; that
    checkpoint resumes with another step than the run that was stopped.
    """

    def __init__(self) -> None:
        self.is_asked = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, signum, frame) -> None:
        self.is_asked = True  # a second signal, while the checkpoint is written, changes nothing

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.is_asked = in_any_process(self.is_asked)
        if self.is_asked:
            control.should_training_stop = True
            # A complete epoch is validated first, as in a run that nobody stops.
            if not (self._is_complete(state) and args.save_strategy == SaveStrategy.EPOCH):
                control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        if self.is_asked and not self._is_complete(state):
            control.should_evaluate = control.should_save = False

    @staticmethod
    def _is_complete(state) -> bool:
        return state.epoch == int(state.epoch) or state.global_step >= state.max_steps

    def on_train_end(self, args, state, control, **kwargs) -> None:
        signal.signal(signal.SIGTERM, self.before)


class FindBestCheckpoint(TrainerCallback):
    """After a resume: the best checkpoint is in this run's folder, beside the resumed one, or gone.

    The Trainer knows it by the path it had; the folder may have moved since.
    """

    def __init__(self, resumed: str | None) -> None:
        self.resumed = resumed

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if not self.resumed or not state.best_global_step:
            return
        folders = Path(args.output_dir), Path(self.resumed).parent
        found = [folder / f"checkpoint-{state.best_global_step}" for folder in folders]
        best = next((path for path in found if path.is_dir()), None)
        if best is None:
            if state.is_world_process_zero:
                print(f"The best checkpoint so far, {found[-1]}, is gone: only later ones compete.")
            state.best_metric = state.best_global_step = None
        state.best_model_checkpoint = best and str(best)


class TimeKeeper(TrainerCallback):
    """Forecast how long the run takes, and stop training so that all of it fits its budget.

    Args:
        started: `time.monotonic()` when the run began; loading counts.
        budget: seconds for the whole run with its scoring, or None.
        validation, scoring: seconds that one validation, and scoring at the end, will take.
        known_share: seconds of a step whose crops are known, over those of one with new crops.
    """

    def __init__(
        self,
        started: float,
        budget: float | None,
        validation: float,
        scoring: float,
        known_share: float = 1.0,
    ) -> None:
        self.started, self.budget, self.known_share = started, budget, known_share
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
        if in_any_process(is_over):
            self.stopped_early = state.global_step < state.max_steps
            control.should_evaluate = control.should_save = control.should_training_stop = True

    def _print_forecast(self, args, state, elapsed: float, step: float) -> None:
        left = state.max_steps - state.global_step
        every = state.eval_steps if args.eval_strategy == "steps" else 0
        n_validations = left / every if every else state.num_train_epochs - (state.epoch or 0)
        n_new = self.first_step + N_NEW_EPOCHS * state.max_steps / max(1, state.num_train_epochs)
        new_left = min(left, max(0, n_new - state.global_step))
        n_steps = new_left + self.known_share * (left - new_left)
        training = n_steps * step + n_validations * self.validation
        self.forecast = elapsed + training + self.scoring
        if not state.is_world_process_zero:
            return
        print(f"Forecast: {self.forecast / 60:.1f} minutes for the whole run.")
        if self.budget and self.forecast > self.budget:
            share = max(0.0, (self.budget - elapsed - self.scoring) / training)
            n_steps = state.global_step + int(share * left)
            print(
                f"Only about {n_steps} of {state.max_steps} steps fit into the budget: the run "
                f"will stop there. With --max_steps {n_steps} its learning rate decays in time."
            )
