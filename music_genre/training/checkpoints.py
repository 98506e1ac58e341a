"""The folder of a training run: its checkpoints, its lock, and how a new model replaces an old one.

Nothing is deleted here that a run did not write.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from transformers import PreTrainedModel, SequenceFeatureExtractor

from music_genre.errors import InputError
from music_genre.loading import LOADING_LOGGERS, without_warnings
from music_genre.report import REPORT_FILE, read_report

LOCK_FILE = ".lock"
UNFINISHED_FILE = ".unfinished"  # from the start of a run to its end
LINEAR_PROBE = "linear_probe"  # folder in that of the run
FINISHING = ".finishing"  # folder in it, too, where a result is put together
COMMAND_FILE = ".command.json"  # what `Command` says of the run
CHOICE_FILE = "choice.json"  # in it: how the probe was chosen
# Without one of these the Trainer would resume with another optimizer or other random numbers.
STATE_FILES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")
# Of what a finished run writes: names that a folder may hold for another reason.
OVERWRITTEN = ("model.safetensors", "config.json", "preprocessor_config.json", "README.md")


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
    wrong = set().union(*info.values())  # missing, unexpected and mismatched tensors
    weights, own = loaded.state_dict(), model.state_dict()
    wrong |= {n for n in weights.keys() | own.keys() if _shape(weights, n) != _shape(own, n)}
    if wrong:
        raise InputError(
            f"{folder} does not hold the weights of this model: {min(map(str, wrong))} does not "
            "fit. Start a new run in another --output_dir."
        )
    model.load_state_dict(weights)


def _shape(weights: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return weights[name].shape if name in weights else None


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


def prepare_folder(output_dir: Path, checkpoint: str | None) -> None:
    """Make the folder of a run ready, by `checkpoint`, which `find_checkpoint` returned."""
    (output_dir / UNFINISHED_FILE).touch()
    shutil.rmtree(output_dir / FINISHING, ignore_errors=True)  # of a run that was killed
    if checkpoint:  # a run that is resumed in another folder brings its linear probe along
        there, here = Path(checkpoint).parent / LINEAR_PROBE, output_dir / LINEAR_PROBE
        if there.is_dir() and not here.exists():
            shutil.copytree(there, here)


def is_held(output_dir: Path) -> bool:
    """Whether a run may be working in a folder."""
    return (output_dir / LOCK_FILE).exists()


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


def is_finished(output_dir: Path) -> bool:
    """Whether the last run there came to its end; a report alone may be of one before it."""
    return read_report(output_dir) is not None and not (output_dir / UNFINISHED_FILE).exists()


def _last(output_dir: Path) -> str:
    """The newest complete checkpoint: the disk may have been full at the newest of all."""
    numbered = [f for f in output_dir.glob("checkpoint-*") if f.name.split("-", 1)[1].isdigit()]
    folders = sorted(numbered, key=lambda folder: int(folder.name.split("-")[1]))
    if not folders and is_linear_probe(probe := str(output_dir / LINEAR_PROBE)):
        return probe
    if not folders:
        raise InputError(f"There is no checkpoint in {output_dir} to resume from.")
    for folder in reversed(folders):
        if not (missing := _missing(folder)):
            return str(folder)
        print(f"{folder} has no {missing[0]}: it is not complete and is skipped.")
    raise InputError(
        f"No checkpoint in {output_dir} is complete: start again in another --output_dir."
    )


def _missing(folder: Path) -> list[str]:
    missing = [name for name in STATE_FILES if not (folder / name).is_file()]
    if not list(folder.glob("*.safetensors")):
        missing.append("model.safetensors")
    if not list(folder.glob("rng_state*.pth")):
        missing.append("rng_state.pth")
    return missing


def num_steps_of(checkpoint: str | None) -> int:
    """Steps that a checkpoint has behind it; read before training, which deletes old ones."""
    if not checkpoint or is_linear_probe(checkpoint):
        return 0
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"]


def check_precision(checkpoint: str | None, precision: str) -> None:
    """
    Raises:
        InputError: the Trainer cannot resume a run in fp16, which scales its loss, in another one.
    """
    if checkpoint and Path(checkpoint, "scaler.pt").exists() and precision != "fp16":
        raise InputError(
            f"{checkpoint} was trained in fp16, and this run would use {precision}: add "
            "--precision fp16 on a GPU, or start a new run in another --output_dir."
        )


def check_steps_per_epoch(checkpoint: str | None, now: float) -> None:
    """The Trainer counts the epochs that are done by the steps of an epoch now.

    Args:
        now: steps of an epoch in the run that resumes.

    Raises:
        InputError: the checkpoint's run made more or fewer.
    """
    if not checkpoint or is_linear_probe(checkpoint):
        return
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    then = state["global_step"] / state["epoch"]
    if abs(then - now) > max(1, 0.2 * now):  # a part of a batch at the end of an epoch aside
        raise InputError(
            f"{checkpoint} made {then:.0f} steps an epoch, and this run would make {now:.0f}: "
            "resume with the clips, --per_device_train_batch_size, --gradient_accumulation_steps "
            "and number of processes that it had."
        )


def is_disk_full(error: BaseException | None, folder: Path) -> bool:
    """torch and safetensors hide the cause in an error of their own: look at the disk as well."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free < 2**20
