"""Checkpoints of a training run: which one to go on from, and what must not be written over."""

import errno
import json
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from music_genre.errors import InputError
from music_genre.report import read_report

# Without one of these the Trainer would go on, but with another optimiser or other random numbers.
STATE_FILES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Copy the weights that `save_pretrained` wrote to `folder` into a model, in place.

    transformers renames the tensors of some families (AST is one) when it saves, and names them
    back in `from_pretrained` alone. The optimizer keeps its parameters.

    Raises:
        InputError: a tensor is missing, is left over or has another shape.
    """
    loaded, info = type(model).from_pretrained(
        folder, ignore_mismatched_sizes=True, output_loading_info=True
    )
    wrong = sorted(map(str, set().union(*info.values())))
    if wrong or loaded.state_dict().keys() != model.state_dict().keys():
        name = f": {wrong[0]} does not fit" if wrong else ""
        raise InputError(f"{folder} holds the weights of another model{name}. Start a new run.")
    model.load_state_dict(loaded.state_dict())


def find_checkpoint(output_dir: Path, wanted: str | None) -> str | None:
    """The checkpoint to go on from, None to begin anew.

    Args:
        output_dir: of the run.
        wanted: a checkpoint's folder, `last` for the newest in `output_dir`, or None.

    Raises:
        InputError: it is not there or not complete, or the folder holds another run's work.
    """
    if wanted and wanted.lower() in ("true", "last"):
        return _last(output_dir)
    if wanted:
        if missing := _missing(Path(wanted)):
            raise InputError(f"{wanted} is no checkpoint to go on from: it has no {missing[0]}.")
        return wanted
    report = read_report(output_dir)
    if report and report["is_synthetic"]:
        shutil.rmtree(output_dir)  # a demonstration may be repeated
    elif report or list(output_dir.glob("checkpoint-*")):
        raise InputError(
            f"{output_dir} holds another run: choose another --output_dir, or go on with that run "
            "by --resume_from_checkpoint last."
        )
    return None


def _last(output_dir: Path) -> str:
    """The newest complete checkpoint: the disk may have been full at the newest of all."""
    folders = sorted(output_dir.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[-1]))
    if not folders:
        raise InputError(f"There is no checkpoint in {output_dir} to resume from.")
    for folder in reversed(folders):
        if not (missing := _missing(folder)):
            return str(folder)
        print(f"{folder} has no {missing[0]}: it is not complete and is left out.")
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
    if not checkpoint:
        return 0
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"]


def is_disk_full(error: BaseException | None, folder: Path) -> bool:
    """torch and safetensors hide the cause in an error of their own: look at the disk as well."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free < 2**20
