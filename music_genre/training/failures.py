"""What a person is told when a run ends before its end."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState

from music_genre.errors import InputError
from music_genre.report import read_report
from music_genre.training.checkpoints import RESUME, read_choice

# In what gloo says of a process that is gone; NCCL ends the process itself.
CONNECTION_LOST = ("by peer", "Broken pipe", "Timed out waiting")


@contextmanager
def explain_failures(output_dir: str | None) -> Iterator[None]:
    """Around a run: what libraries raise, and a person can mend, becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:  # an optimizer or a tracker whose package is not here
        raise InputError(str(error)) from error
    except Exception as error:
        if is_disk_full(error, Path(output_dir or ".")):
            raise InputError(f"The disk is full: make room. {RESUME}") from error
        if PartialState().num_processes > 1 and is_connection_lost(error):
            raise InputError(
                f"Another process of this run has ended, and this one cannot go on. {RESUME}"
            ) from error
        raise


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """torch and safetensors hide the cause in an error of their own: look at the disk as well."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free < 2**20


def is_connection_lost(error: BaseException) -> bool:
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in CONNECTION_LOST)


def what_is_left(output_dir: str | None) -> str:
    """What a person who stops a run has."""
    folder = Path(output_dir or "")
    if not output_dir or not (list(folder.glob("checkpoint-*")) or read_choice(folder)):
        return "Stopped: nothing was saved."
    model = f" {folder} has a model: python app.py --model {folder}." if read_report(folder) else ""
    return f"Stopped.{model} {RESUME}"
