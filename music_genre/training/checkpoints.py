"""The folder of a training run: its checkpoints, its lock, and how a finished run replaces another.

Nothing is deleted here that a run did not write.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock, Timeout
from transformers import PreTrainedModel

from music_genre.errors import InputError
from music_genre.loading import LOADING_LOGGERS, without_warnings
from music_genre.report import REPORT_FILE, read_report

LOCK_FILE = ".lock"
UNFINISHED_FILE = ".unfinished"  # from the start of a run to its end
LINEAR_PROBE = "linear_probe"  # folder in that of the run
CHOICE_FILE = "choice.json"  # in it: how the probe was chosen
# Without one of these the Trainer would resume with another optimizer or other random numbers.
STATE_FILES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")
# All that the Trainer writes into a checkpoint.
CHECKPOINT_FILES = (
    *STATE_FILES,
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "rng_state*.pth",
    "scaler.pt",
    "training_args.bin",
)
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


def find_checkpoint(output_dir: Path, wanted: str | None) -> str | None:
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
        _check_is_free(output_dir)
    return wanted


def is_linear_probe(checkpoint: str | None) -> bool:
    """Whether a checkpoint is a run's linear probe, and not one of the Trainer's."""
    return bool(checkpoint) and Path(checkpoint, CHOICE_FILE).is_file()


def _check_is_free(output_dir: Path) -> None:
    """A new run may start in a folder that holds a finished demonstration, or nothing of a run."""
    report = read_report(output_dir)
    is_demonstration = bool(report and report.get("is_synthetic"))
    checkpoints = list(output_dir.glob("checkpoint-*"))
    if is_demonstration and all(map(_is_of_demonstration, checkpoints)):
        return
    if report or checkpoints:
        raise InputError(
            f"{output_dir} holds another run: choose another --output_dir, or resume that run with "
            "--resume_from_checkpoint last."
        )
    for name in OVERWRITTEN:
        if (output_dir / name).exists():
            raise InputError(
                f"{output_dir} holds a {name} that no run of this program wrote and that this run "
                "would overwrite: choose another --output_dir."
            )


def _is_of_demonstration(checkpoint: Path) -> bool:
    """Whether a demonstration wrote it, and nobody put another file into it."""
    files = list(checkpoint.iterdir()) if checkpoint.is_dir() else [checkpoint]
    if not all(any(map(path.match, CHECKPOINT_FILES)) for path in files):
        return False
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(config.get("trained_on_synthetic_music"))


def prepare_folder(output_dir: Path, checkpoint: str | None) -> None:
    """Make the folder of a run ready, by `checkpoint`, which `find_checkpoint` returned."""
    (output_dir / UNFINISHED_FILE).touch()
    if checkpoint:
        # A run that is resumed in another folder brings its linear probe along.
        there, here = Path(checkpoint).parent / LINEAR_PROBE, output_dir / LINEAR_PROBE
        if there.is_dir() and not here.exists():
            shutil.copytree(there, here)
        return
    # A demonstration is repeated. Its old checkpoints would be taken for the new ones; the finished
    # model stays until the new one replaces it. Only what the Trainer writes is deleted, by name.
    for old in output_dir.glob("checkpoint-*"):
        for pattern in CHECKPOINT_FILES:
            for path in old.glob(pattern):
                path.unlink()
        old.rmdir()  # fails where another file is in it


@contextmanager
def hold_folder(output_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder while this process lives, however it ends.

    Raises:
        InputError: another run holds it.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
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


@contextmanager
def replace_when_complete(output_dir: Path, is_last: bool) -> Iterator[Path]:
    """A temporary folder to write a result of a run to; its files then move into `output_dir`.

    An earlier result stays as it is until all of the new one is written. The report leaves first
    and comes last: a folder without it holds no result. The last result finishes the run.
    """
    with TemporaryDirectory(prefix=".finishing-", dir=output_dir) as temporary:
        yield Path(temporary)
        for path in Path(temporary).glob("*.safetensors"):
            path.chmod(0o644)  # safetensors writes for the owner alone, unlike all others
        (output_dir / REPORT_FILE).unlink(missing_ok=True)
        for path in sorted(Path(temporary).iterdir(), key=lambda path: path.name == REPORT_FILE):
            os.replace(path, output_dir / path.name)
        if is_last:
            (output_dir / UNFINISHED_FILE).unlink(missing_ok=True)


def is_finished(output_dir: Path) -> bool:
    """Whether the last run there came to its end; a report alone may be of one before it."""
    return read_report(output_dir) is not None and not (output_dir / UNFINISHED_FILE).exists()


def _last(output_dir: Path) -> str:
    """The newest complete checkpoint: the disk may have been full at the newest of all."""
    folders = sorted(output_dir.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[-1]))
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


def n_steps_of(checkpoint: str | None) -> int:
    """Steps that a checkpoint has behind it; read before training, which deletes old ones."""
    if not checkpoint or is_linear_probe(checkpoint):
        return 0
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"]


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
