"""What frozen convolutions make of each crop, computed once: they are 45 % of DistilHuBERT's step.

The crops of training are drawn anew in the first N_NEW_EPOCHS epochs and repeat after that. Their
features wait in a temporary file, 51 kB for a second of audio. Masks and dropout differ each time.
"""

import os
import shutil
import tempfile

import numpy as np
import torch
from transformers import PreTrainedModel

N_NEW_EPOCHS = 2


class FeatureStore:
    """Features and targets of crops by their numbers, in a file that no one else sees.

    The file is gone with the process, however that ends. A process that was spawned and not forked
    does not have it: it finds nothing. After a full disk nothing more is kept.

    Args:
        shape: of a crop's features, (frames, channels).
        n_labels: length of a crop's target.
    """

    def __init__(self, shape: tuple[int, int], n_labels: int) -> None:
        self._row = np.dtype(
            [("features", np.float16, shape), ("target", np.float32, n_labels), ("is_set", bool)]
        )
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def __getstate__(self) -> dict:
        return {"_row": self._row, "_file": None}

    def read(self, key: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Features, float16, and target, float32, of a crop; None where they are not kept."""
        size = self._row.itemsize
        data = os.pread(self._file.fileno(), size, key * size) if self._file else b""
        if len(data) < size or not data[-1]:
            return None
        row = np.frombuffer(data, self._row)[0]
        return row["features"], row["target"]

    def write(self, key: int, features: np.ndarray, target: np.ndarray) -> None:
        if not self._file:
            return
        row = np.array((features, target, True), self._row)
        try:
            os.pwrite(self._file.fileno(), row.tobytes(), key * self._row.itemsize)
        except OSError:
            self._file = None

    @staticmethod
    def has_room_for(n_rows: int, shape: tuple[int, int]) -> bool:
        """Whether half of the disk's free space is enough, and the system can do it."""
        free = shutil.disk_usage(tempfile.gettempdir()).free
        return hasattr(os, "pread") and 2 * n_rows * 2 * shape[0] * shape[1] < free


def open_store(model: PreTrainedModel, window: int, n_crops: int) -> FeatureStore | None:
    """Make a model with frozen convolutions take features, shape (crops, channels, frames), too.

    Args:
        model: HuBERT or of its kin, with a `feature_extractor` that is frozen.
        window: samples of a crop.
        n_crops: of an epoch.

    Returns:
        Where its features are kept; None where there is no room.
    """
    encoder = model.base_model.feature_extractor
    compute = encoder.forward
    with torch.no_grad():
        channels, frames = compute(torch.zeros(1, window, device=model.device))[0].shape
    if not FeatureStore.has_room_for(N_NEW_EPOCHS * n_crops, (frames, channels)):
        return None
    encoder.forward = lambda inputs: inputs if inputs.ndim == 3 else compute(inputs)
    return FeatureStore((frames, channels), model.config.num_labels)
