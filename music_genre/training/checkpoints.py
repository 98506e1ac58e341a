"""The folder of a training run: its checkpoints, its lock, and how a new model replaces an old one.

Only files that a run has written are deleted here.
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
LINEAR_PROBE = "linear_probe"  # subfolder of the run
FINISHING = ".finishing"  # subfolder of the run, in which a result is put together
CHOICE_FILE = "choice.json"  # in LINEAR_PROBE: how it was chosen; written last
# Files that a finished run writes, but that a folder may also hold for another reason.
OVERWRITTEN = (
    REPORT_FILE, "model.safetensors", "config.json", "preprocessor_config.json", "README.md",
)  # fmt: skip
RESUME = "The same command with --resume_from_checkpoint last resumes the run."


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Copy the weights that `save_pretrained` wrote to `folder` into a model, in place.

    Only `from_pretrained` restores the names of renamed tensors.

    Raises:
        InputError: a tensor is missing, is left over or has another shape, or labels differ.
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
    """Return the checkpoint to resume from, or None for a new run. Changes no file.

    Args:
        wanted: a checkpoint in `output_dir`, `last` for the newest complete one, or None. A run's
            oldest checkpoint is its linear probe.

    Raises:
        InputError: the checkpoint is missing or incomplete, or the folder holds another run.
    """
    output_dir = Path(output_dir)
    if not wanted:
        _check_is_free(output_dir)
        return None
    found = [Path(wanted)]
    if wanted.lower() in ("true", "last"):
        names = (path.name.removeprefix("checkpoint-") for path in output_dir.glob("checkpoint-*"))
        steps = sorted(int(name) for name in names if name.isdigit())  # not renamed copies
        found = [output_dir / LINEAR_PROBE, *(output_dir / f"checkpoint-{n}" for n in steps)]
    elif found[0].absolute().parent != output_dir.absolute():
        raise InputError(f"{wanted} is not in {output_dir}: give the --output_dir of its run.")
    # A full disk may have left the newest one incomplete. The Trainer writes this file last.
    complete = [
        folder
        for folder in found
        if is_linear_probe(folder) or (folder / "trainer_state.json").is_file()
    ]
    if not complete:
        raise InputError(
            f"There is no complete checkpoint at {found[-1]} to resume from: start a new run, "
            "without --resume_from_checkpoint, in another --output_dir."
        )
    return str(complete[-1])


def is_linear_probe(checkpoint: str | Path) -> bool:
    """Whether a checkpoint is a run's linear probe and not the Trainer's."""
    return Path(checkpoint, CHOICE_FILE).is_file()


def save_linear_probe(
    output_dir: Path,
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    choice: dict[str, Any],
) -> None:
    """Save the model as it is before fine-tuning, and what `fit_linear_probe` returned."""
    folder = output_dir / LINEAR_PROBE
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    (folder / CHOICE_FILE).write_text(json.dumps(choice), encoding="utf-8")


def read_choice(output_dir: Path) -> dict[str, Any] | None:
    """What `fit_linear_probe` returned in a run; None if the run's linear probe is missing."""
    path = output_dir / LINEAR_PROBE / CHOICE_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _check_is_free(output_dir: Path) -> None:
    """Check that the folder holds no part of a run and no file that a new run would overwrite."""
    there = [*output_dir.glob("checkpoint-*"), *map(output_dir.joinpath, OVERWRITTEN)]
    there += [output_dir / LINEAR_PROBE] * is_linear_probe(output_dir / LINEAR_PROBE)
    if found := next((path.name for path in there if path.exists()), None):
        raise InputError(
            f"{output_dir} has {found} in it: to continue a run, or to fine-tune its linear "
            "probe, add --resume_from_checkpoint last (without --num_train_epochs 0); to start a "
            "new run, choose another --output_dir."
        )


@contextmanager
def open_folder(arguments: TrainingArguments) -> Iterator[None]:
    """Create and lock the folder of a run; with several processes, only the first one does.

    The lock keeps other runs out until this process ends, however it ends.

    Raises:
        InputError: another run has locked it, it cannot be written, or a process cannot see it.
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
            shutil.rmtree(folder / FINISHING, ignore_errors=True)  # left by a killed run
        PartialState().wait_for_everyone()
        if not all(gather_object([(folder / LOCK_FILE).exists()])):
            raise InputError(
                f"The machines do not share {folder}: give them the same --output_dir, on a disk "
                "that they share."
            )
        yield


def move_into_place(output_dir: Path) -> None:
    """Replace the result of a run by the complete one in FINISHING.

    The report is removed first and moved last: a folder without a report holds no result.
    """
    new = output_dir / FINISHING
    for path in new.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes it readable for the owner only
    (output_dir / REPORT_FILE).unlink(missing_ok=True)
    for path in sorted(new.iterdir(), key=lambda path: path.name == REPORT_FILE):
        os.replace(path, output_dir / path.name)
    new.rmdir()


def steps_done(checkpoint: str | None, precision: str) -> int:
    """Steps done at a checkpoint. Call it before training, which deletes old checkpoints.

    Raises:
        InputError: the Trainer cannot resume from it: it was trained in fp16, which scales the
            loss.
    """
    if not checkpoint or is_linear_probe(checkpoint):
        return 0
    if Path(checkpoint, "scaler.pt").exists() and precision != "fp16":
        raise InputError(
            f"{checkpoint} was trained in fp16, and this run would use {precision}: add "
            "--fp16 on a GPU, or start a new run in another --output_dir."
        )
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"]
