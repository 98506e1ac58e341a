"""Callbacks of the Trainer: for the epoch's crops, checkpoints, signals, the clock, a bad loss."""

import math
import signal
import time
from pathlib import Path

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from music_genre.errors import InputError
from music_genre.training.checkpoints import load_weights
from music_genre.training.clips import CropDataset
from music_genre.training.processes import in_any_process, print_once


class SetEpoch(TrainerCallback):
    """Tell the training clips which epoch it is (Accelerate does so with one process only)."""

    def __init__(self, clips: CropDataset) -> None:
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.clips.epoch = int(state.epoch)


class LoadCheckpoints(TrainerCallback):
    """Load the resumed checkpoint, and the best one at the end, with `load_weights`.

    The Trainer loads a file as it is, but transformers renames the tensors of some families, such
    as AST, when it saves them.
    """

    def __init__(self, resumed: str | None) -> None:
        self.resumed = resumed

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        if self.resumed:
            self._load(args, model, self.resumed)
        if self.resumed and state.best_global_step:  # the folder may have been moved
            best = Path(args.output_dir, f"checkpoint-{state.best_global_step}")
            state.best_model_checkpoint = str(best)

    def on_train_end(self, args, state, control, model=None, **kwargs) -> None:
        if args.load_best_model_at_end and state.best_model_checkpoint:
            self._load(args, model, state.best_model_checkpoint)

    @staticmethod
    def _load(args, model, checkpoint: str) -> None:
        if not (args.fsdp or args.deepspeed):  # their weights are sharded by now
            load_weights(model, Path(checkpoint))


class StopEarly(TrainerCallback):
    """Stop training after a step on SIGTERM, on Ctrl-C, or at a deadline of `time.monotonic`.

    After a signal, a checkpoint is saved. transformers' `enable_jit_checkpoint` saves before the
    step's update, and a run resumed from that differs from an uninterrupted one.
    """

    def __init__(self, deadline: float = float("inf")) -> None:
        self.deadline, self.is_late = deadline, False
        self.asked_by: int | None = None  # the signal's number

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        numbers = signal.SIGTERM, signal.SIGINT
        self.before = {number: signal.signal(number, self._ask) for number in numbers}

    def _ask(self, number, frame) -> None:
        if number == signal.SIGINT and self.asked_by == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C stops immediately
        if number == signal.SIGINT and self.asked_by is None:
            print_once("\nStopping after this step, with a checkpoint. Ctrl-C again stops now.")
        self.asked_by = self.asked_by or number  # SIGTERM during the save changes nothing

    def on_step_end(self, args, state, control, **kwargs) -> None:
        is_asked, is_late = in_any_process(
            self.asked_by is not None, time.monotonic() > self.deadline
        )
        self.is_late = is_late and state.global_step < state.max_steps
        control.should_training_stop |= is_asked or is_late
        if is_asked:
            self.asked_by = self.asked_by or signal.SIGTERM
            # A complete epoch is validated first, as in a run that is not stopped.
            if not (self._is_complete(state) and args.save_strategy == SaveStrategy.EPOCH):
                control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        if self.asked_by and not self._is_complete(state):
            control.should_evaluate = control.should_save = False

    @staticmethod
    def _is_complete(state) -> bool:
        return state.epoch == int(state.epoch) or state.global_step >= state.max_steps

    def on_train_end(self, args, state, control, **kwargs) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class StopOnBadLoss(TrainerCallback):
    """End the run before it is saved if the loss is infinite or not a number.

    The Trainer logs the mean of the losses since the last log, over all processes.
    """

    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_log |= control.should_save or control.should_evaluate

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        control.should_log = True

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise InputError(
                f"The loss is infinite or not a number by step {state.global_step}: the run "
                "stops. Try a lower --learning_rate, or --bf16 False."
            )
