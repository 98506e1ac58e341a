"""EfficientAT on the spectrogram images of the Kaggle archive, as if they came from audio.

Run by `python -m baselines ARCHIVE --images`. `images_original` has one PNG per track, of its whole
30 s, with or without white margins around the plot. The net starts from random weights, or from
those of `--image_model`, trains on random crops of 7.5 s, and averages over crops when it is
scored. The splits are the same as for the other models.
"""

import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.special import log_softmax
from tqdm import tqdm
from transformers import Trainer, TrainingArguments, set_seed

from baselines.comparison import Row, score, train_and_test
from data_prep.archive import members_of
from data_prep.gtzan import GENRES, genre_of
from music_genre.efficientat import EfficientATConfig, EfficientATForAudioClassification
from music_genre.errors import InputError

IMAGE_NAME = re.compile(rf"({'|'.join(GENRES)})\.?(\d{{5}})", re.IGNORECASE)  # blues00000.png
WHITE = 250  # of 255; the lightest colour of a spectrogram has far less blue
BANDS, FRAMES = 128, 1024  # of a plot as the net sees it; Kaggle's plots have 217 by 335 pixels
CROP = 256  # frames: 7.5 s
RANDOM_WIDTH = 0.4  # of the net with random weights, the same as mn04's
UNUSABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises
EDGE = 3  # pixels: an axis line is two pixels wide and blurs into a third


def read_images(archive: Path) -> dict[str, np.ndarray]:
    """Return the plots of an archive's images by track_id, see `read_plot`.

    Raises InputError: it is not an archive, or has no usable image of a GTZAN track.
    """
    plots, unusable = {}, []
    members = members_of(archive, {".png"})
    for member in tqdm(members, desc=f"Reading {archive.name}", unit=" files"):
        if match := IMAGE_NAME.fullmatch(Path(member.basename).stem):
            try:
                plots[f"{match[1].lower()}.{match[2]}"] = read_plot(member.read())
            except UNUSABLE as error:
                unusable.append(f"{member.basename} ({error})")
    if unusable:
        print(f"Unusable images: {len(unusable)}, such as {', '.join(unusable[:5])}.")
    if not plots:
        raise InputError(
            f"{archive} has no images such as images_original/blues/blues00000.png: leave out "
            "--images."
        )
    return plots


def read_plot(data: bytes) -> np.ndarray:
    """Read the plot in a PNG, without margins, as a spectrogram with the lowest band first.

    Returns float32, shape (FRAMES, BANDS), mean 0, deviation 1. Raises UNUSABLE: it has no plot.
    """
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    plot = plot_area(np.asarray(image.convert("RGB")))
    grey = Image.fromarray(plot).convert("L").resize((FRAMES, BANDS), Image.Resampling.BOX)
    spectrogram = np.asarray(grey, dtype=np.float32)[::-1].T
    if not (deviation := spectrogram.std()):
        raise ValueError("its plot has one colour")
    return (spectrogram - spectrogram.mean()) / deviation


def plot_area(pixels: np.ndarray) -> np.ndarray:
    """Cut off margins, ticks and axes: the plot is where most of a row or column is not white.

    `pixels` are uint8, shape (height, width, 3). Returns the plot without EDGE on each side.
    """
    inked = (pixels < WHITE).any(axis=2)
    rows = np.flatnonzero(inked.mean(axis=1) > 0.5)
    columns = np.flatnonzero(inked.mean(axis=0) > 0.5)
    if len(rows) < 16 or len(columns) < 16:
        raise ValueError("it has no plot")
    return pixels[rows[0] + EDGE : rows[-1] + 1 - EDGE, columns[0] + EDGE : columns[-1] + 1 - EDGE]


class Crops(torch.utils.data.Dataset):
    """Crops of plots, as `input_values` of shape (CROP, BANDS), float32, and `labels`."""

    def __init__(self, plots: Mapping[str, np.ndarray], tracks: list[str], is_random: bool) -> None:
        starts = [None] if is_random else range(0, FRAMES - CROP + 1, CROP // 2)
        self.plots = plots
        self.rows = [(track, start) for track in tracks for start in starts]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, object]:
        track, start = self.rows[i]
        if start is None:
            start = int(torch.randint(FRAMES - CROP + 1, ()))
        return {
            "input_values": self.plots[track][start : start + CROP],
            "labels": GENRES.index(genre_of(track)),
        }


def evaluate(
    plots: Mapping[str, np.ndarray],
    method: str,
    seeds: Sequence[int],
    epochs: int,
    model: Path | None,
) -> Row:
    """Train and score on a split; a track's score is the share of seeds that are right.

    Args:
        model: an EfficientAT to start from; None means random weights.
    """
    tracks = sorted(plots)
    train, test = ([tracks[i] for i in rows] for rows in train_and_test(tracks, method))
    right = pd.Series(0.0, index=test)
    for seed in seeds:
        trainer = make_trainer(Crops(plots, train, is_random=True), epochs, seed, model)
        trainer.train()
        logits = trainer.predict(Crops(plots, test, is_random=False)).predictions
        means = log_softmax(logits, axis=-1).reshape(len(test), -1, len(GENRES)).mean(axis=1)
        right += [GENRES[i] == genre_of(t) for i, t in zip(means.argmax(-1), test, strict=True)]
    size = f"{trainer.model.num_parameters() / 1e6:.1f} million"
    name = f"EfficientAT from {model.name if model else 'random weights'}, seeds: {len(seeds)}"
    return Row(name, "images", method, *score(right / len(seeds)), size)


def make_trainer(crops: Crops, epochs: int, seed: int, model: Path | None) -> Trainer:
    """Make a Trainer; with weights of `model`, the first blocks are frozen, as in train_hf.py."""
    set_seed(seed)
    config = EfficientATConfig(width_multiplier=RANDOM_WIDTH, num_labels=len(GENRES))
    net = EfficientATForAudioClassification(config)
    if model:
        net = EfficientATForAudioClassification.from_pretrained(
            model, num_labels=len(GENRES), ignore_mismatched_sizes=True
        )
        net.freeze_feature_encoder()
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=epochs,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.01,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        save_strategy="no",
        report_to="none",
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
    )
    return Trainer(net, arguments, train_dataset=crops)
