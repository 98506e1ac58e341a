"""The folder of a training run: its checkpoints, its lock, and how a new model replaces an old one.

Nothing is deleted here that a run did not write.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from transformers import PreTrainedModel, SequenceFeatureExtractor, TrainingArguments

from music_genre.errors import InputError
from music_genre.loading import LOADING_LOGGERS, without_warnings
from music_genre.report import REPORT_FILE

LOCK_FILE = ".lock"
LINEAR_PROBE = "linear_probe"  # folder in that of the run
FINISHING = ".finishing"  # folder in it, too, where a result is put together
CHOICE_FILE = "choice.json"  # in LINEAR_PROBE: how it was chosen; written last
# Files that a finished run writes, and that a folder may also hold for another reason.
OVERWRITTEN = (
    REPORT_FILE, "model.safetensors", "config.json", "preprocessor_config.json", "README.md",
)  # fmt: skip
RESUME = "The same command with --resume_from_checkpoint last resumes the run."


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Copy the weights that `save_pretrained` wrote to `folder` into a model, in place.

    Only `from_pretrained` gives renamed tensors their names back.

    Raises:
        InputError: a tensor is missing, is left over or has another shape, or labels are others.
    """
    with without_warnings(*LOADING_LOGGERS):
        loaded, info = type(model).from_pretrained(
            folder, ignore_mismatched_sizes=True, output_loading_info=True
        )
    theirs, ours = ({k: v.shape for k, v in m.state_dict().items()} for m in (loaded, model))
    has_other_labels = loaded.config.id2label != model.config.id2label
    if any(info.values()) or theirs != ours or has_other_labels:
        raise InputError(
            f"{folder} does not hold the weights of this model: start a new run in another "
            "--output_dir."
        )
    model.load_state_dict(loaded.state_dict())


def find_checkpoint(output_dir: str | Path, wanted: str | None) -> str | None:
    """The checkpoint to resume from, None to start anew. Nothing is changed.

    Args:
        wanted: a checkpoint in `output_dir`, `last` for the newest complete one, or None. The
            oldest of a run is its linear probe.

    Raises:
        InputError: it is not there or not complete, or the folder holds another run's work.
    """
    output_dir = Path(output_dir)
    if not wanted:
        _check_is_free(output_dir)
        return None
    found = [Path(wanted)]
    if wanted.lower() in ("true", "last"):
        names = (path.name.removeprefix("checkpoint-") for path in output_dir.glob("checkpoint-*"))
        steps = sorted(int(name) for name in names if name.isdigit())  # a copy has a name
        found = [output_dir / LINEAR_PROBE, *(output_dir / f"checkpoint-{n}" for n in steps)]
    elif found[0].absolute().parent != output_dir.absolute():
        raise InputError(f"{wanted} is not in {output_dir}: give the --output_dir of its run.")
    # The disk may have been full at the newest of all. The Trainer writes this file last.
    complete = [
        folder
        for folder in found
        if is_linear_probe(folder) or (folder / "trainer_state.json").is_file()
    ]
    if not complete:
        raise InputError(
            f"There is no complete checkpoint at {found[-1]} to resume from: start anew, without "
            "--resume_from_checkpoint, in another --output_dir."
        )
    return str(complete[-1])


def is_linear_probe(checkpoint: str | Path) -> bool:
    """Whether a checkpoint is a run's linear probe, and not one of the Trainer's."""
    return Path(checkpoint, CHOICE_FILE).is_file()


def check_window(checkpoint: str | Path, window_seconds: float) -> None:
    """Raises InputError: the model of a checkpoint has windows of another length."""
    config = json.loads(Path(checkpoint, "config.json").read_text(encoding="utf-8"))
    if (before := config["window_seconds"]) != window_seconds:
        raise InputError(
            f"{checkpoint} has windows of {before:g} s: resume with --window_seconds {before:g}, "
            "or start a new run in another --output_dir."
        )


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


def _check_is_free(output_dir: Path) -> None:
    """A new run may start in a folder that holds nothing of a run, nor what it would overwrite."""
    there = [*output_dir.glob("checkpoint-*"), *map(output_dir.joinpath, OVERWRITTEN)]
    there += [output_dir / LINEAR_PROBE] * is_linear_probe(output_dir / LINEAR_PROBE)
    if found := next((path.name for path in there if path.exists()), None):
        raise InputError(
            f"{output_dir} has {found} in it: to go on with a run, or to fine-tune its linear "
            "probe, add --resume_from_checkpoint last (without --num_train_epochs 0); to train "
            "anew, choose another --output_dir."
        )


@contextmanager
def open_folder(arguments: TrainingArguments) -> Iterator[None]:
    """Hold the folder of a run, and make it ready; of several processes the first one does.

    Other runs are kept out while this process lives, however it ends.

    Raises:
        InputError: another run holds it, it cannot be written, or a process does not see it.
    """
    folder = Path(arguments.output_dir)
    with ExitStack() as held:
        if arguments.should_save:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(folder / LOCK_FILE, timeout=0))
            except Timeout:
                raise InputError(
                    f"Another run is still working in {folder}: wait until it ends, stop it, or "
                    "choose another --output_dir."
                ) from None
            except OSError as error:
                raise InputError(
                    f"{folder} cannot be written: {error.strerror}. Choose another --output_dir."
                ) from error
            shutil.rmtree(folder / FINISHING, ignore_errors=True)  # of a run that was killed
        PartialState().wait_for_everyone()
        if not all(gather_object([(folder / LOCK_FILE).exists()])):
            raise InputError(
                f"The machines do not share {folder}: give them the same --output_dir, on a disk "
                "that they share."
            )
        yield


def move_into_place(output_dir: Path) -> None:
    """Replace the result of a run by the one in FINISHING, of which every file is written.

    The report leaves first and comes last: a folder without it holds no result.
    """
    new = output_dir / FINISHING
    for path in new.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone, unlike all others
    (output_dir / REPORT_FILE).unlink(missing_ok=True)
    for path in sorted(new.iterdir(), key=lambda path: path.name == REPORT_FILE):
        os.replace(path, output_dir / path.name)
    new.rmdir()


def steps_done(checkpoint: str | None, precision: str, steps_per_epoch: float) -> int:
    """Steps that a checkpoint has behind it. Read before training, which deletes old ones.

    Raises:
        InputError: the Trainer cannot go on from it in this run: it was trained in fp16, which
            scales the loss, or has other steps in an epoch, by which epochs that are done count.
    """
    if not checkpoint or is_linear_probe(checkpoint):
        return 0
    if Path(checkpoint, "scaler.pt").exists() and precision != "fp16":
        raise InputError(
            f"{checkpoint} was trained in fp16, and this run would use {precision}: add "
            "--fp16 on a GPU, or start a new run in another --output_dir."
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
