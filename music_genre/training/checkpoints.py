"""The folder of a training run: its checkpoints, its lock, and how a new model replaces an old one.

Nothing is deleted here that a run did not write.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from transformers import PreTrainedModel, SequenceFeatureExtractor, TrainingArguments

from music_genre.errors import InputError
from music_genre.loading import LOADING_LOGGERS, without_warnings
from music_genre.report import REPORT_FILE, read_report
from music_genre.training.processes import print_once

LOCK_FILE = ".lock"
UNFINISHED_FILE = ".unfinished"  # from the start of a run to its end
LINEAR_PROBE = "linear_probe"  # folder in that of the run
FINISHING = ".finishing"  # folder in it, too, where a result is put together
COMMAND_FILE = ".command.json"  # what `Command` says of the run
CHOICE_FILE = "choice.json"  # in LINEAR_PROBE: how it was chosen; written last
# Without one of these the Trainer would resume with another optimizer or other random numbers. It
# writes the last one last.
STATE_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")
# Of what a finished run writes: names that a folder may hold for another reason.
OVERWRITTEN = ("model.safetensors", "config.json", "preprocessor_config.json", "README.md")
RESUME = "The same command with --resume_from_checkpoint last resumes the run."


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Copy the weights that `save_pretrained` wrote to `folder` into a model, in place.

    transformers renames the tensors of some families (AST is one) when it saves, and names them
    back in `from_pretrained` alone. The optimizer keeps its parameters.

    Raises:
        InputError: a tensor is missing, is left over or has another shape.
    """
    with without_warnings(*LOADING_LOGGERS):
        loaded, info = type(model).from_pretrained(
            folder, ignore_mismatched_sizes=True, output_loading_info=True
        )
    wrong = sorted(map(str, set().union(*info.values())))  # missing or left over
    if not wrong:
        try:
            model.load_state_dict(loaded.state_dict())
        except RuntimeError as error:
            wrong = [str(error).splitlines()[-1].strip()]
    if wrong:
        raise InputError(
            f"{folder} does not hold the weights of this model: {wrong[0]} does not fit. Start a "
            "new run in another --output_dir."
        )


@dataclass(frozen=True)
class Command:
    """What makes a run the same one: hashes of its options and of its data."""

    options: str
    data: str

    def write(self, output_dir: Path) -> None:
        (output_dir / COMMAND_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def of(cls, output_dir: Path) -> "Command | None":
        """Of the run in a folder; None if it does not say."""
        try:
            known = json.loads((output_dir / COMMAND_FILE).read_text(encoding="utf-8"))
            return cls(known["options"], known["data"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def find_checkpoint(output_dir: Path, wanted: str | None, command: Command) -> str | None:
    """The checkpoint to resume from, None to start anew. Nothing is changed.

    Args:
        output_dir: of the run.
        wanted: a checkpoint's folder, `last` for the newest in `output_dir`, or None. The last one
            of a run that made no step is its linear probe.

    Raises:
        InputError: it is not there or not complete, or the folder holds another run's work.
    """
    if PartialState().is_main_process and (output_dir / LOCK_FILE).exists():
        with hold_folder(output_dir):  # a run that works in it is no earlier one
            pass
    if wanted and wanted.lower() in ("true", "last"):
        return _last(output_dir)
    if wanted and not is_linear_probe(wanted) and (missing := _missing(Path(wanted))):
        raise InputError(f"{wanted} is not a checkpoint to resume from: it has no {missing[0]}.")
    if not wanted or Path(wanted).absolute().parent != output_dir.absolute():
        _check_is_free(output_dir, command)
    return wanted


def is_linear_probe(checkpoint: str | None) -> bool:
    """Whether a checkpoint is a run's linear probe, and not one of the Trainer's."""
    return bool(checkpoint) and Path(checkpoint, CHOICE_FILE).is_file()


def save_linear_probe(
    output_dir: Path,
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    choice: dict[str, Any],
) -> None:
    """Put the model as it is before fine-tuning aside, with what `fit_linear_probe` returned."""
    folder = output_dir / LINEAR_PROBE
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    (folder / CHOICE_FILE).write_text(json.dumps(choice), encoding="utf-8")


def read_choice(output_dir: Path) -> dict[str, Any] | None:
    """What `fit_linear_probe` returned in a run; None if its linear probe is not there."""
    path = output_dir / LINEAR_PROBE / CHOICE_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _check_is_free(output_dir: Path, command: Command) -> None:
    """A new run may start in a folder that holds nothing of a run, nor what it would overwrite."""
    if read_report(output_dir) or list(output_dir.glob("checkpoint-*")):
        raise InputError(_what_is_there(output_dir, command))
    for name in OVERWRITTEN:
        if (output_dir / name).exists():
            raise InputError(
                f"{output_dir} holds a {name} that no run of this program wrote and that this run "
                "would overwrite: choose another --output_dir."
            )


def _what_is_there(output_dir: Path, command: Command) -> str:
    there = Command.of(output_dir)
    anew = f"to train anew beside it, add --output_dir {output_dir}-2"
    if there and there.options == command.options:
        if there.data != command.data:
            return f"{output_dir} holds a run of this command on other data: {anew}."
        return f"{output_dir} holds this run, unfinished: add --resume_from_checkpoint last."
    if read_choice(output_dir) and not list(output_dir.glob("checkpoint-*")):
        return (
            f"{output_dir} holds a linear probe: to fine-tune it, add --resume_from_checkpoint "
            f"last; {anew}."
        )
    if is_finished(output_dir):
        return f"{output_dir} holds another run, which is finished: {anew}."
    return (
        f"{output_dir} holds another run, unfinished: {anew}; to resume that run, give its own "
        "options and --resume_from_checkpoint last."
    )


@contextmanager
def open_folder(
    arguments: TrainingArguments, checkpoint: str | None, command: Command
) -> Iterator[None]:
    """Hold the folder of a run, and make it ready; of several processes the first one does.

    Args:
        checkpoint: what `find_checkpoint` returned.

    Raises:
        InputError: another run holds it, or a process does not see it.
    """
    folder = Path(arguments.output_dir)
    with hold_folder(folder) if arguments.should_save else nullcontext():
        if arguments.should_save:
            (folder / UNFINISHED_FILE).touch()
            shutil.rmtree(folder / FINISHING, ignore_errors=True)  # of a run that was killed
            command.write(folder)
            _bring_linear_probe(folder, checkpoint)
        PartialState().wait_for_everyone()
        if not all(gather_object([Command.of(folder) == command])):
            raise InputError(
                f"The machines do not share {folder}, or have other options or data: give them the "
                "same ones, and an --output_dir on a disk that they share."
            )
        yield


def _bring_linear_probe(folder: Path, checkpoint: str | None) -> None:
    """A run that is resumed in another folder takes its linear probe along."""
    if checkpoint:
        there, here = Path(checkpoint).parent / LINEAR_PROBE, folder / LINEAR_PROBE
        if there.is_dir() and not here.exists():
            shutil.copytree(there, here)


@contextmanager
def hold_folder(output_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder while this process lives, however it ends.

    Raises:
        InputError: another run holds it.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / LOCK_FILE).touch()
    except OSError as error:
        raise InputError(
            f"{output_dir} cannot be written: {error.strerror}. Choose another --output_dir."
        ) from error
    lock = FileLock(output_dir / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"Another run is still working in {output_dir}: wait until it ends, stop it, or choose "
            "another --output_dir."
        ) from None
    except (NotImplementedError, OSError):
        print(f"{output_dir} cannot be locked: start no other run in it.")  # some network drives
    try:
        yield
    finally:
        lock.release()


def move_into_place(output_dir: Path, is_last: bool) -> None:
    """Replace the result of a run by the one in FINISHING, of which every file is written.

    The report leaves first and comes last: a folder without it holds no result. The last result
    finishes the run.
    """
    new = output_dir / FINISHING
    for path in new.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone, unlike all others
    (output_dir / REPORT_FILE).unlink(missing_ok=True)
    for path in sorted(new.iterdir(), key=lambda path: path.name == REPORT_FILE):
        os.replace(path, output_dir / path.name)
    new.rmdir()
    if is_last:
        (output_dir / UNFINISHED_FILE).unlink(missing_ok=True)


def is_finished(output_dir: Path, command: Command | None = None) -> bool:
    """Whether the last run there came to its end; a report alone may be of one before it.

    Args:
        command: that the run must have been of.
    """
    is_its = command is None or Command.of(output_dir) == command
    has_report = read_report(output_dir) is not None
    return has_report and is_its and not (output_dir / UNFINISHED_FILE).exists()


def _last(output_dir: Path) -> str:
    """The newest complete checkpoint: the disk may have been full at the newest of all."""
    numbered = [f for f in output_dir.glob("checkpoint-*") if f.name.split("-", 1)[1].isdigit()]
    for folder in sorted(numbered, key=lambda f: int(f.name.split("-")[1]), reverse=True):
        if not (missing := _missing(folder)):
            return str(folder)
        print_once(f"{folder} has no {missing[0]}: it is not complete and is skipped.")
    if is_linear_probe(probe := str(output_dir / LINEAR_PROBE)):
        return probe
    raise InputError(
        f"There is no complete checkpoint in {output_dir} to resume from: start without "
        f"--resume_from_checkpoint{', in another --output_dir' if numbered else ''}."
    )


def _missing(folder: Path) -> list[str]:
    return [name for name in STATE_FILES if not (folder / name).is_file()]


def steps_done(checkpoint: str | None, precision: str, steps_per_epoch: float) -> int:
    """Steps that a checkpoint has behind it. Read before training, which deletes old ones.

    Args:
        precision, steps_per_epoch: of the run that resumes.

    Raises:
        InputError: the Trainer cannot go on from it: it was trained in fp16, which scales the loss,
            or has other steps in an epoch, by which it counts the epochs that are done.
    """
    if not checkpoint or is_linear_probe(checkpoint):
        return 0
    if Path(checkpoint, "scaler.pt").exists() and precision != "fp16":
        raise InputError(
            f"{checkpoint} was trained in fp16, and this run would use {precision}: add "
            "--precision fp16 on a GPU, or start a new run in another --output_dir."
        )
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    then = state["global_step"] / state["epoch"]
    if abs(then - steps_per_epoch) > max(1, 0.2 * steps_per_epoch):  # but for a part of a batch
        raise InputError(
            f"{checkpoint} made {then:.0f} steps an epoch, and this run would make "
            f"{steps_per_epoch:.0f}: resume with the clips, --per_device_train_batch_size, "
            "--gradient_accumulation_steps and number of processes that it had."
        )
    return state["global_step"]
