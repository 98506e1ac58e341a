"""Turn errors of libraries that end a run into a sentence for the user."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from music_genre.errors import InputError
from music_genre.training.checkpoints import RESUME


@contextmanager
def explain_failures(output_dir: str | None) -> Iterator[None]:
    """Turn library errors in a run that the user can fix into an InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:  # the package of an optimizer or tracker is missing
        raise InputError(str(error)) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            "The GPU has too little memory: halve --per_device_train_batch_size and double "
            "--gradient_accumulation_steps, which trains the same."
        ) from error
    except Exception as error:
        if is_disk_full(error, Path(output_dir or ".")):
            raise InputError(f"The disk is full: make room. {RESUME}") from error
        raise


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """torch and safetensors hide the cause in an error of their own, so also check the disk."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free < 2**20
